//! Fixed windows.

use std::time::Duration;

use super::Taken;

/// The current window and what was used of it.
#[derive(Debug)]
pub struct FixedWindow {
    limit: u32,
    window: Duration,
    number: u128,
    used: u32,
}

impl FixedWindow {
    /// An unused window.
    pub fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit,
            window: window.max(Duration::from_nanos(1)),
            number: 0,
            used: 0,
        }
    }

    /// One call at `now`.
    pub fn take(&mut self, now: Duration) -> Taken {
        let length = self.window.as_nanos();
        let number = now.as_nanos() / length;
        if number != self.number {
            (self.number, self.used) = (number, 0);
        }
        let allowed = self.used < self.limit;
        self.used += u32::from(allowed);
        let remaining = self.limit - self.used;
        let left = u64::try_from(length - now.as_nanos() % length).unwrap_or(u64::MAX);
        let wait = if remaining == 0 {
            Duration::from_nanos(left)
        } else {
            Duration::ZERO
        };
        Taken {
            allowed,
            limit: self.limit,
            remaining,
            wait,
        }
    }
}
