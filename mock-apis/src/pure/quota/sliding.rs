//! Sliding window: the instants of the calls that were served, exactly.

use std::collections::VecDeque;
use std::time::Duration;

use super::Taken;

/// Served calls of the window that ends now; at most `limit` of them.
#[derive(Debug)]
pub struct SlidingWindow {
    limit: u32,
    window: Duration,
    served: VecDeque<Duration>,
}

impl SlidingWindow {
    /// An unused window.
    pub fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit,
            window,
            served: VecDeque::new(),
        }
    }

    /// One call at `now`.
    pub fn take(&mut self, now: Duration) -> Taken {
        while self
            .served
            .front()
            .is_some_and(|first| *first + self.window <= now)
        {
            self.served.pop_front();
        }
        let allowed = self.served.len() < self.limit as usize;
        if allowed {
            self.served.push_back(now);
        }
        let used = u32::try_from(self.served.len()).unwrap_or(u32::MAX);
        let remaining = self.limit.saturating_sub(used);
        let wait = match self.served.front() {
            Some(first) if remaining == 0 => (*first + self.window).saturating_sub(now),
            _ => Duration::ZERO,
        };
        Taken {
            allowed,
            limit: self.limit,
            remaining,
            wait,
        }
    }
}
