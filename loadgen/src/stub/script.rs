//! What a stub is told to do.

use std::time::Duration;

use super::Delay;

/// A script.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Delay of creates.
    pub create: Delay,
    /// Delay of commands, health, files.
    pub agent: Delay,
    /// Delay of code.
    pub code: Delay,
    /// Delay of all that changes a sandbox's state, kills included.
    pub life: Delay,
    /// When the whole server stands still.
    pub stall: Option<Stall>,
    /// Creates worked on at once; the others wait their turn. `None`: all.
    pub capacity: Option<usize>,
    /// Share of creates that is refused with 503, 0 to 1.
    pub refused: f64,
    /// Share of sandboxes that never answer anything, 0 to 1.
    pub silent: f64,
    /// Most sandboxes at once; beyond, creates are refused with 429.
    pub most: Option<usize>,
    /// The only key that is good; `None`: any.
    pub key: Option<String>,
    /// Ends the process abruptly after this long: a server that dies.
    pub dies_after: Option<Duration>,
    /// Seed of everything drawn.
    pub seed: u64,
}

/// A server that stands still now and then: what garbage collectors, fsync and failovers look like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// How often it begins.
    pub every: Duration,
    /// When it begins within that.
    pub at: Duration,
    /// How long it lasts.
    pub long: Duration,
}

impl Stall {
    /// How long a request that comes at `now` waits for the end of a stall.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Duration {
        let phase = now.as_nanos() % self.every.as_nanos().max(1);
        let end = (self.at + self.long).as_nanos();
        if phase < self.at.as_nanos() || phase >= end {
            return Duration::ZERO;
        }
        Duration::from_nanos(u64::try_from(end - phase).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_holds_what_comes_within_it() {
        let ms = Duration::from_millis;
        let stall = Stall {
            every: ms(6000),
            at: ms(1000),
            long: ms(200),
        };
        let wait = |now| stall.wait(ms(now)).as_millis();
        assert_eq!(
            [wait(999), wait(1000), wait(1150), wait(1200), wait(13_100)],
            [0, 200, 50, 0, 100]
        );
    }
}
