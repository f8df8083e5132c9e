//! Which process is which, across restarts of the daemon.
//!
//! A process number alone may have been given to another process; number and start time together name one process for
//! the whole uptime of the host (proc_pid_stat(5), field 22, in clock ticks since boot). A pidfd then holds on to it:
//! signals sent through it can never reach another process.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Names one process for the uptime of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessIdentity {
    /// Process number.
    pub pid: i32,
    /// Start time in clock ticks since the host's boot.
    pub start_time: u64,
}

impl ProcessIdentity {
    /// The identity of a process that exists now.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
        let start_time = start_time(&stat).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the stat line has no start time",
            )
        })?;
        Ok(Self { pid, start_time })
    }
}

/// Field `number` (from 3) in a line of `/proc/<pid>/stat`. The name in field 2 may hold anything, brackets and spaces
/// too, so fields are counted from the last closing bracket.
fn field(stat: &[u8], number: usize) -> Option<u64> {
    let text = String::from_utf8_lossy(stat);
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    fields.nth(number.checked_sub(3)?)?.parse().ok()
}

/// Start time in a line of `/proc/<pid>/stat`, in clock ticks.
fn start_time(stat: &[u8]) -> Option<u64> {
    field(stat, 22)
}

/// Processor time in a line of `/proc/<pid>/stat`, of all threads, in user and kernel mode, in clock ticks.
fn processor_ticks(stat: &[u8]) -> Option<u64> {
    field(stat, 14)?.checked_add(field(stat, 15)?)
}

/// A process held by a pidfd; may be a child or not.
#[derive(Debug)]
pub struct Process {
    identity: ProcessIdentity,
    pidfd: AsyncFd<OwnedFd>,
    dead: AtomicBool,
}

impl Process {
    /// Processor time that it has used, to a clock tick (10 ms); `None` once it is gone.
    pub fn processor_time(&self) -> Option<Duration> {
        let stat = std::fs::read(format!("/proc/{}/stat", self.identity.pid)).ok()?;
        if start_time(&stat)? != self.identity.start_time {
            return None;
        }
        let milliseconds = processor_ticks(&stat)?.checked_mul(1_000)?;
        let per_second = rustix::param::clock_ticks_per_second();
        milliseconds
            .checked_div(per_second)
            .map(Duration::from_millis)
    }

    /// Takes hold of a process that exists now.
    pub fn hold(pid: i32) -> io::Result<Self> {
        let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::NONBLOCK)?;
        // Read after the pidfd is held: from here on the number cannot be given away.
        let identity = ProcessIdentity::of(pid)?;
        Ok(Self {
            identity,
            pidfd: super::sys::watch(pidfd, Interest::READABLE)?,
            dead: AtomicBool::new(false),
        })
    }

    /// Which process this is.
    pub fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    /// Sends SIGKILL; harmless when it is dead.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }

    /// Resolves when the process is dead, and reaps it when it is a child.
    pub async fn exited(&self) {
        while !self.dead.load(Ordering::Acquire) {
            // A pidfd becomes readable when the process ends, and stays so (pidfd_open(2)).
            match self.pidfd.readable().await {
                Ok(mut ready) => ready.retain_ready(),
                Err(_) => return,
            }
            let _ = rustix::process::waitid(
                WaitId::PidFd(std::os::fd::AsFd::as_fd(self.pidfd.get_ref())),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
            self.dead.store(true, Ordering::Release);
        }
    }
}

/// Processes whose command line holds the two arguments `--control <path below run_dir>`.
pub fn machines_below(run_dir: &Path) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| controls_below(&line, run_dir))
        })
        .collect()
}

/// Whether a `/proc/<pid>/cmdline` (arguments that each end in a zero byte) is that of a machine below `run_dir`.
fn controls_below(cmdline: &[u8], run_dir: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let mut arguments = cmdline.split(|b| *b == 0);
    arguments.any(|argument| argument == b"--control")
        && arguments
            .next()
            .is_some_and(|path| Path::new(std::ffi::OsStr::from_bytes(path)).starts_with(run_dir))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use proptest::prelude::*;

    use super::{
        Process, ProcessIdentity, controls_below, machines_below, processor_ticks, start_time,
    };

    #[test]
    fn a_name_with_brackets_does_not_confuse_the_fields() {
        let line = b"42 (a) b) (c) S 1 42 42 0 -1 4194560 1 0 0 0 70 8 0 0 20 0 1 0 987654 1000 1 18446744073709551615";
        assert_eq!(start_time(line), Some(987_654));
        assert_eq!(processor_ticks(line), Some(78));
        assert_eq!(processor_ticks(b"42 (a) S 1 42"), None);
        assert_eq!(start_time(b"42 (a S 1"), None);
    }

    #[test]
    fn a_machine_is_known_by_its_control_path() {
        let run = Path::new("/run/sandboxd");
        let line = b"/bin/microvm\0--id\0iabc\0--control\0/run/sandboxd/iabc/control.sock\0";
        assert!(controls_below(line, run));
        assert!(!controls_below(line, Path::new("/run/other")));
        assert!(!controls_below(b"vi\0/run/sandboxd/x\0--control\0", run));
    }

    proptest! {
        #[test]
        fn parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = start_time(&bytes);
            let _ = processor_ticks(&bytes);
            let _ = controls_below(&bytes, Path::new("/run"));
        }
    }

    #[tokio::test]
    async fn processor_time_is_that_of_the_process_and_gone_with_it() {
        let process = Process::hold(std::process::id().try_into().unwrap()).unwrap();
        let before = process.processor_time().unwrap();
        let mut sum = 0_u64;
        while process.processor_time().unwrap() <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let other = Process {
            identity: ProcessIdentity {
                start_time: process.identity.start_time + 1,
                ..process.identity
            },
            ..process
        };
        assert_eq!(other.processor_time(), None);
    }

    #[tokio::test]
    #[expect(
        clippy::zombie_processes,
        reason = "that `Process` reaps the child is what is tested"
    )]
    async fn a_child_is_watched_killed_and_reaped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/control.sock");
        let child = super::super::sys::spawn_in_own_session(
            Command::new("sh")
                .args(["-c", "read line", "--control"])
                .arg(&path)
                .stdin(std::process::Stdio::piped()),
            None,
        )
        .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::hold(pid).unwrap();
        assert_eq!(ProcessIdentity::of(pid).unwrap(), process.identity());
        assert_eq!(machines_below(dir.path()), [pid]);
        process.kill();
        process.exited().await;
        process.exited().await;
        assert!(ProcessIdentity::of(pid).is_err(), "a zombie is left");
    }
}
