//! Collects the exits of children; the only place in the agent that calls wait(2).
//!
//! ```text
//!   spawn ──fork──▶ pid ──(under the lock)──▶ table[pid] = sender
//!                                                 │
//!   SIGCHLD ─▶ wait until nothing is left ────────┴─▶ known pid: its receiver gets the status
//!                                                     unknown pid: an orphan adopted by PID 1, dropped
//! ```
//!
//! Ordering rules: fork and the entry into the table happen under one lock, and so does collecting, so that a child
//! that dies at once is never taken for an orphan. Nothing else may wait for children: as PID 1 the agent must wait
//! for *any* child, which would steal the status from `std::process::Child` and `tokio::process`. As an ordinary
//! process ([`Adoption::OwnOnly`], tests and stand-alone mode) only pids in the table are waited for.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, WaitOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Which children are collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// Every child, orphans of others included: the duty of PID 1.
    Everything,
    /// Only children in the table: an ordinary process whose other parts have children of their own.
    OwnOnly,
}

/// Table of living children.
#[derive(Debug)]
pub struct Reaper {
    adoption: Adoption,
    children: Mutex<HashMap<Pid, oneshot::Sender<ExitStatus>>>,
}

/// The coming exit of one child. An error means that the reaper has gone, which only happens at the agent's end.
pub type Exit = oneshot::Receiver<ExitStatus>;

impl Reaper {
    /// A reaper; nothing is collected until [`Reaper::start`].
    #[must_use]
    pub fn new(adoption: Adoption) -> Arc<Self> {
        Arc::new(Self {
            adoption,
            children: Mutex::new(HashMap::new()),
        })
    }

    /// Starts collecting in a task of the current runtime.
    ///
    /// # Errors
    /// When the handler for SIGCHLD cannot be installed.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let mut changes = signal(SignalKind::child())?;
        let reaper = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                // Children may have ended before the handler was installed.
                reaper.collect();
                if changes.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Runs `fork` and enters the child's pid, so that its exit cannot be missed. `fork` must return soon: collecting
    /// waits for it.
    ///
    /// # Errors
    /// Whatever `fork` fails with.
    pub fn register(&self, fork: impl FnOnce() -> io::Result<Pid>) -> io::Result<(Pid, Exit)> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = fork()?;
        let (sender, exit) = oneshot::channel();
        children.insert(pid, sender);
        Ok((pid, exit))
    }

    /// Sends `signal` to the process group that the child `pid` leads, if the child has not been collected: until then
    /// its pid cannot have been given to anybody else.
    ///
    /// # Errors
    /// `NotFound` when the child has been collected, else what kill(2) says.
    pub fn signal_group(&self, pid: Pid, signal: rustix::process::Signal) -> io::Result<()> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if !children.contains_key(&pid) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(rustix::process::kill_process_group(pid, signal)?)
    }

    fn collect(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        match self.adoption {
            Adoption::Everything => {
                // ECHILD (no children at all) ends the loop like "none has ended".
                while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                    deliver(&mut children, pid, status.as_raw());
                }
            }
            Adoption::OwnOnly => {
                let pids: Vec<Pid> = children.keys().copied().collect();
                for pid in pids {
                    if let Ok(Some((pid, status))) =
                        rustix::process::waitpid(Some(pid), WaitOptions::NOHANG)
                    {
                        deliver(&mut children, pid, status.as_raw());
                    }
                }
            }
        }
    }
}

fn deliver(children: &mut HashMap<Pid, oneshot::Sender<ExitStatus>>, pid: Pid, status: i32) {
    if let Some(sender) = children.remove(&pid) {
        // The receiver may have lost interest.
        let _ = sender.send(ExitStatus::from_raw(status));
    }
}
