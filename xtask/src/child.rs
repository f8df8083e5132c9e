//! Child processes that never outlive us: the one place that needs code between fork and exec.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Makes `command` get `signal` when this process dies, however it dies, and takes it out of
/// the terminal's foreground group, so that Ctrl-C reaches only us.
///
/// The kernel watches the *thread* that starts the child: start it from one that lives as
/// long as the child should, such as the main thread.
pub fn tie(command: &mut Command, signal: Signal) -> &mut Command {
    let parent = getpid();
    command.process_group(0);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; this makes two
    // plain system calls (prctl, getppid), allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(signal))?;
            // We may have died before the call above.
            if getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::from(io::ErrorKind::BrokenPipe))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let mut child = std::thread::spawn(|| {
            tie(
                Command::new("sleep").arg("60").stdin(Stdio::null()),
                Signal::KILL,
            )
            .spawn()
        })
        .join()
        .unwrap()
        .unwrap();
        let started = Instant::now();
        let status = child.wait().unwrap();
        assert!(!status.success());
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
