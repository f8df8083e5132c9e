//! How a machine comes to its end: the first reason wins, and wakes whoever waits.

use std::io;
use std::sync::Mutex;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::control::{Event, ExitReason};
use crate::sync::lock;

/// Longest detail that is kept, in bytes.
const MAX_DETAIL: usize = 512;

/// Why the machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// For programs.
    pub reason: ExitReason,
    /// For people.
    pub detail: String,
}

impl Exit {
    /// The last line on every control connection.
    pub fn event(&self) -> Event {
        Event::Exited {
            reason: self.reason,
            detail: self.detail.clone(),
        }
    }

    /// Exit status of the process: 0 when the guest or a client ended it, 1 for a failure, 3 for a panic of the guest.
    pub fn status(&self) -> u8 {
        match self.reason {
            ExitReason::GuestReset | ExitReason::Killed => 0,
            ExitReason::Error => 1,
            ExitReason::GuestPanic => 3,
        }
    }
}

/// Where devices and virtual CPUs leave the reason.
pub struct ExitCell {
    exit: Mutex<Option<Exit>>,
    event: EventFd,
}

impl ExitCell {
    /// An empty cell.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self {
            exit: Mutex::new(None),
            event: EventFd::from_flags(flags)?,
        })
    }

    /// Leaves a reason, unless there is one.
    pub fn set(&self, reason: ExitReason, detail: &str) {
        let mut exit = lock(&self.exit);
        if exit.is_none() {
            let mut end = detail.len().min(MAX_DETAIL);
            while !detail.is_char_boundary(end) {
                end -= 1;
            }
            *exit = Some(Exit {
                reason,
                detail: detail[..end].to_owned(),
            });
            // One write to an empty counter cannot fail.
            let _ = self.event.write(1);
        }
    }

    /// The reason, if there is one.
    pub fn get(&self) -> Option<Exit> {
        lock(&self.exit).clone()
    }

    /// Readable once there is a reason.
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_wins() {
        let cell = ExitCell::new().unwrap();
        assert!(cell.event().read().is_err());
        cell.set(ExitReason::GuestPanic, "first");
        cell.set(ExitReason::Killed, "second");
        assert_eq!(cell.get().unwrap().detail, "first");
        assert_eq!(cell.event().read().unwrap(), 1);
    }

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let cell = ExitCell::new().unwrap();
        cell.set(ExitReason::Error, &"é".repeat(400));
        assert_eq!(cell.get().unwrap().detail.len(), 512);
    }
}
