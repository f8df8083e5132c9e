//! Two calls into the operating system that Rust cannot check. The only `unsafe` of the daemon.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Starts `command` as the leader of a new session, in the control group whose open `cgroup.procs` is `group`.
///
/// The child leaves the daemon's session so that neither a terminal's Ctrl-C nor its hang-up reaches it: a microVM
/// outlives the daemon that started it, and whoever starts the daemon again takes it over. For the same reason the
/// child is not tied to its parent's life (no `PR_SET_PDEATHSIG`). It joins its group before it becomes the program, so that
/// all that the program does counts there.
pub fn spawn_in_own_session(command: &mut Command, group: Option<OwnedFd>) -> io::Result<Child> {
    let leave = move || {
        rustix::process::setsid()?;
        if let Some(group) = &group {
            // cgroup v2: 0 is the writer.
            rustix::io::write(group, b"0")?;
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe calls are allowed;
    // setsid(2) and write(2) are (signal-safety(7)), and the closure neither allocates nor takes locks.
    unsafe { command.pre_exec(leave) };
    command.spawn()
}

/// Watches a descriptor for `interest`.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, always the same descriptor, and closed only when it is dropped, which the `AsyncFd`
    // that owns it does after it has stopped watching.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(|error| error.into_parts().1)
}
