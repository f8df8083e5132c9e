//! Token bucket, kept as the time at which it is full again: exact in integers, no drift.

use std::time::Duration;

use super::Taken;

/// A bucket and when it will be full.
#[derive(Debug)]
pub struct TokenBucket {
    burst: u32,
    refill: Duration,
    full_at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(burst: u32, refill: Duration) -> Self {
        Self {
            burst: burst.max(1),
            refill: refill.max(Duration::from_nanos(1)),
            full_at: Duration::ZERO,
        }
    }

    /// One call at `now`.
    pub fn take(&mut self, now: Duration) -> Taken {
        // Each taken token moves the full instant by one refill; `burst` refills ahead of now is an empty bucket.
        let next = self.full_at.max(now).saturating_add(self.refill);
        let ceiling = now.saturating_add(self.refill.saturating_mul(self.burst));
        let allowed = next <= ceiling;
        if allowed {
            self.full_at = next;
        }
        let missing = self
            .full_at
            .saturating_sub(now)
            .as_nanos()
            .div_ceil(self.refill.as_nanos());
        let remaining = self
            .burst
            .saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX));
        let full_less_one = self
            .full_at
            .saturating_add(self.refill)
            .saturating_sub(ceiling);
        Taken {
            allowed,
            limit: self.burst,
            remaining,
            wait: full_less_one,
        }
    }
}
