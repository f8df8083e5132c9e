//! A token bucket without a clock: whoever asks says what time it is.
//!
//! ```text
//!   full ── take ──► level falls … level rises by `rate` per second up to `capacity`
//! ```

use std::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// A bucket that starts full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    capacity: u64,
    rate: u64,
    level: u64,
    /// Time up to which `level` is right.
    filled_to: Duration,
}

impl TokenBucket {
    /// A full bucket of `capacity` tokens that gains `rate` tokens a second, at least 1.
    pub fn new(capacity: u64, rate: u64) -> Self {
        Self {
            capacity,
            rate: rate.max(1),
            level: capacity,
            filled_to: Duration::ZERO,
        }
    }

    /// Takes `want` tokens, or none when there are fewer. `now` is the time since any fixed moment; a time before an
    /// earlier one counts as that one.
    pub fn take(&mut self, now: Duration, want: u64) -> bool {
        self.fill(now);
        match self.level.checked_sub(want) {
            Some(level) => {
                self.level = level;
                true
            }
            None => false,
        }
    }

    /// How long after `now` there will be `want` tokens; what exceeds the capacity is never there, and counts as it.
    pub fn wait(&mut self, now: Duration, want: u64) -> Duration {
        self.fill(now);
        let missing = want.min(self.capacity).saturating_sub(self.level);
        let nanos = (u128::from(missing) * SECOND).div_ceil(u128::from(self.rate));
        let ready = self.filled_to.saturating_add(duration(nanos));
        ready.saturating_sub(now)
    }

    fn fill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.filled_to).as_nanos();
        let gained = elapsed * u128::from(self.rate) / SECOND;
        let level = u128::from(self.level) + gained;
        if level >= u128::from(self.capacity) {
            self.level = self.capacity;
            self.filled_to = self.filled_to.max(now);
        } else {
            self.level = u64::try_from(level).unwrap_or(self.capacity);
            // Only the time of whole tokens has passed; the rest counts towards the next one.
            let used = (gained * SECOND).div_ceil(u128::from(self.rate));
            self.filled_to = self
                .filled_to
                .saturating_add(duration(used))
                .min(now.max(self.filled_to));
        }
    }
}

fn duration(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_paid_back_at_the_rate() {
        let mut bucket = TokenBucket::new(100, 1000);
        assert!(bucket.take(at(0), 100));
        assert!(!bucket.take(at(0), 1));
        assert_eq!(bucket.wait(at(0), 50), at(50));
        assert!(!bucket.take(at(49), 50));
        assert!(bucket.take(at(50), 50));
    }

    #[test]
    fn it_never_holds_more_than_its_capacity() {
        let mut bucket = TokenBucket::new(100, 1000);
        assert!(!bucket.take(at(3_600_000), 101));
        assert!(bucket.take(at(3_600_000), 100));
        assert_eq!(bucket.wait(at(3_600_000), 500), at(100));
    }

    #[test]
    fn time_that_runs_backwards_gains_nothing() {
        let mut bucket = TokenBucket::new(100, 1000);
        assert!(bucket.take(at(500), 100));
        assert!(!bucket.take(at(400), 1));
        assert!(!bucket.take(at(500), 1));
        assert!(bucket.take(at(501), 1));
    }

    proptest! {
        /// Over any history, no more is given than a burst and the rate times the time.
        #[test]
        fn the_rate_holds(
            capacity in 1..10_000u64, rate in 1..1_000_000u64,
            steps in prop::collection::vec((0..2_000_000_000u64, 1..5_000u64), 1..100),
        ) {
            let mut bucket = TokenBucket::new(capacity, rate);
            let (mut now, mut given) = (0u64, 0u64);
            for (pause, want) in steps {
                now += pause;
                if bucket.take(Duration::from_nanos(now), want) {
                    given += want;
                }
                let most = u128::from(capacity) + u128::from(now) * u128::from(rate) / SECOND;
                prop_assert!(u128::from(given) <= most);
            }
        }

        /// Waiting as long as it says is enough, and a microsecond less never is by more than a token's time.
        #[test]
        fn the_wait_is_enough(
            capacity in 1..10_000u64, rate in 1..1_000_000u64, first in 0..10_000u64, want in 1..10_000u64,
        ) {
            let mut bucket = TokenBucket::new(capacity, rate);
            let now = at(7);
            bucket.take(now, first.min(capacity));
            let wait = bucket.wait(now, want);
            prop_assert!(bucket.take(now + wait, want.min(capacity)));
        }
    }
}
