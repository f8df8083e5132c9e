//! Pauses between attempts, bounded and growing.
//!
//! Used in two places only: while a `microvm` process binds its control socket and while a guest boots. Neither can
//! announce itself to the daemon before it listens, so the daemon has to try. The first pauses are short because a
//! process is there within a few milliseconds, and they grow so that waiting costs the booting guest nothing.

use std::time::Duration;

/// Growing pauses: `first`, then half as much again each time, never above `longest`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses from `first` up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            longest,
        }
    }

    /// The pause to make now.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = (pause + pause / 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn grows_to_its_bound_and_stays() {
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(10));
        let pauses: Vec<_> = (0..6).map(|_| backoff.pause().as_micros()).collect();
        assert_eq!(pauses, [2_000, 3_000, 4_500, 6_750, 10_000, 10_000]);
    }
}
