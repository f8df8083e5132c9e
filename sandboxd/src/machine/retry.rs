//! Pauses between attempts, in proportion to the time that has passed.
//!
//! Used in one place only: while a guest boots. Its kernel cannot announce that its agent listens, so the daemon has to
//! try. A pause is an eighth of the
//! time waited so far: what is there soon is noticed at once, nothing is noticed more than an eighth late, and the
//! number of attempts grows with the logarithm of the wait, so that on a slow host trying does not take the processor
//! from what is being waited for.

use std::time::{Duration, Instant};

/// Shortest pause.
const SHORTEST: Duration = Duration::from_millis(1);

/// Longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that grow with the time waited.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    since: Instant,
}

impl Backoff {
    /// Begins to wait.
    pub fn start() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// Makes the next pause.
    pub async fn pause(&self) {
        tokio::time::sleep(pause_after(self.since.elapsed())).await;
    }
}

fn pause_after(waited: Duration) -> Duration {
    (waited / 8).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LONGEST, pause_after};

    /// Attempts made in `wait`, and how late its end is noticed.
    fn attempts(wait: Duration) -> (u32, Duration) {
        let (mut waited, mut attempts) = (Duration::ZERO, 0);
        while waited < wait {
            waited += pause_after(waited);
            attempts += 1;
        }
        (attempts, waited - wait)
    }

    #[test]
    fn few_attempts_and_never_more_than_an_eighth_late() {
        for (ms, most) in [(3, 4), (50, 25), (1_000, 50), (5_000, 65), (60_000, 130)] {
            let wait = Duration::from_millis(ms);
            let (count, late) = attempts(wait);
            assert!(count <= most, "{count} attempts in {wait:?}");
            assert!(
                late <= (wait / 8).max(Duration::from_millis(1)).min(LONGEST),
                "{late:?}"
            );
        }
    }
}
