//! How many processes should wait, and what the pool does next. Pure: times come in as values.
//!
//! ```text
//!   takes ──► the largest number within [BURST] of each other, of the last [MEMORY] ──► target, within the limits
//! ```
//!
//! A load that comes steadily is served by one process that is replaced as soon as it was taken; more are needed only for
//! those that come at once. So the size follows bursts, rises with the first one, and falls when it is a while ago.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Takes within this time count as at once: the pool does not fill up in between.
pub const BURST: Duration = Duration::from_secs(2);

/// How long a burst is remembered.
pub const MEMORY: Duration = Duration::from_secs(60);

/// Most takes that are remembered; more do not fit into any pool.
const MOST_TAKES: usize = 512;

/// First pause after a process that could not be made, doubled with each further one up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest pause between processes that cannot be made.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Bounds of the number of processes that wait, per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fewest, for a kind that is in use.
    pub least: usize,
    /// Most; 0 for no pool.
    pub most: usize,
}

/// What is known about the use of one kind.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// In order.
    takes: VecDeque<Instant>,
    /// Whether a template is made from it, so that it may be asked for at any time.
    pub standing: bool,
    /// Failures since the last success.
    failures: u32,
    not_before: Option<Instant>,
}

impl Demand {
    /// One is wanted, whether there is one or not.
    pub fn took(&mut self, now: Instant) {
        self.forget(now);
        if self.takes.len() == MOST_TAKES {
            self.takes.pop_front();
        }
        self.takes.push_back(now);
    }

    /// One was made.
    pub fn made(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    /// One could not be made, or died while it waited.
    pub fn failed(&mut self, now: Instant) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + pause.min(LONGEST_PAUSE));
    }

    /// How many should wait.
    pub fn target(&self, now: Instant, limits: Limits) -> usize {
        let least = if self.standing { limits.least } else { 0 };
        self.burst(now).max(least).min(limits.most)
    }

    /// When the target may change by time alone.
    fn changes(&self, now: Instant) -> Option<Instant> {
        self.recent(now).next().map(|first| first + MEMORY)
    }

    /// Whether nothing is known that is worth keeping.
    pub fn is_over(&self, now: Instant) -> bool {
        !self.standing && self.recent(now).next().is_none()
    }

    fn forget(&mut self, now: Instant) {
        while self.takes.front().is_some_and(|at| *at + MEMORY <= now) {
            self.takes.pop_front();
        }
    }

    fn recent(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let recent = self.takes.iter().copied();
        recent.skip_while(move |at| *at + MEMORY <= now)
    }

    /// Most takes of the last [`MEMORY`] that were within [`BURST`].
    fn burst(&self, now: Instant) -> usize {
        let (mut window, mut most) = (VecDeque::new(), 0);
        for at in self.recent(now) {
            while window.front().is_some_and(|first| *first + BURST <= at) {
                window.pop_front();
            }
            window.push_back(at);
            most = most.max(window.len());
        }
        most
    }
}

/// What the pool does next about one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One more.
    Make,
    /// One less.
    End,
    /// Nothing before this time, unless something happens.
    Rest(Option<Instant>),
}

/// Decides about one kind of which `waiting` wait.
pub fn step(demand: &Demand, waiting: usize, now: Instant, limits: Limits) -> Step {
    let target = demand.target(now, limits);
    if waiting > target {
        return Step::End;
    }
    if waiting == target {
        return Step::Rest(demand.changes(now));
    }
    match demand.not_before {
        Some(at) if at > now => Step::Rest(Some(demand.changes(now).map_or(at, |c| c.min(at)))),
        _ => Step::Make,
    }
}

/// Whether a process may be made now: while a processor is free of starts, or when it has waited for one for long enough. On a
/// host with one processor it would take the time of whoever is waiting for a sandbox; a load that never pauses must not
/// leave the pool empty for ever either.
pub fn is_time(starting: usize, processors: usize, waited: Duration) -> bool {
    const PATIENCE: Duration = Duration::from_secs(3);
    starting < processors || waited >= PATIENCE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { least: 1, most: 8 };

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn demand(start: Instant, takes: &[u64], standing: bool) -> Demand {
        let mut demand = Demand {
            standing,
            ..Demand::default()
        };
        for ms in takes {
            demand.took(after(start, *ms));
        }
        demand
    }

    #[test]
    fn a_burst_is_prepared_for_until_it_is_a_while_ago() {
        let start = Instant::now();
        let steady = demand(start, &[0, 2_000, 4_000, 6_000], true);
        assert_eq!(steady.target(after(start, 6_000), LIMITS), 1);
        let burst = demand(start, &[0, 10, 20, 30, 9_000], true);
        assert_eq!(burst.target(after(start, 9_000), LIMITS), 4);
        assert_eq!(burst.target(after(start, 60_031), LIMITS), 1);
        let other = demand(start, &[0], false);
        assert_eq!(other.target(after(start, 59_999), LIMITS), 1);
        assert_eq!(other.target(after(start, 60_000), LIMITS), 0);
        assert!(other.is_over(after(start, 60_000)) && !burst.is_over(after(start, 90_000)));
    }

    #[test]
    fn failures_are_spaced_out() {
        let start = Instant::now();
        let mut demand = demand(start, &[], true);
        assert_eq!(step(&demand, 0, start, LIMITS), Step::Make);
        demand.failed(start);
        demand.failed(start);
        let retry = after(start, 500);
        assert_eq!(step(&demand, 0, start, LIMITS), Step::Rest(Some(retry)));
        assert_eq!(step(&demand, 0, retry, LIMITS), Step::Make);
        for _ in 0..40 {
            demand.failed(start);
        }
        let retry = Some(start + LONGEST_PAUSE);
        assert_eq!(step(&demand, 0, start, LIMITS), Step::Rest(retry));
        demand.made();
        assert_eq!(step(&demand, 0, start, LIMITS), Step::Make);
    }

    #[test]
    fn starts_come_first_but_not_for_ever() {
        let ms = Duration::from_millis;
        assert!(is_time(0, 1, ms(0)) && is_time(1, 2, ms(0)));
        assert!(!is_time(1, 1, ms(2_999)) && is_time(9, 1, ms(3_000)));
    }

    proptest! {
        #[test]
        fn the_target_keeps_to_the_limits_and_more_demand_never_lowers_it(
            mut takes in proptest::collection::vec(0u64..200_000, 0..300),
            more in 0u64..200_000,
            standing in any::<bool>(),
            (least, most) in (0usize..4, 0usize..20),
        ) {
            takes.sort_unstable();
            let start = Instant::now();
            let limits = Limits { least, most };
            let now = after(start, 200_000);
            let before = demand(start, &takes, standing);
            let target = before.target(now, limits);
            prop_assert!(target <= most);
            let floor = if standing { least.min(most) } else { 0 };
            prop_assert!(target >= floor);
            takes.push(more);
            takes.sort_unstable();
            let with_more = demand(start, &takes, standing);
            prop_assert!(with_more.target(now, limits) >= target);
            // As many as came at once, not as many as came.
            let burst = |at: &u64| takes.iter().filter(|t| (*at..*at + 2_000).contains(*t)).count();
            let most_at_once = takes.iter().map(burst).max().unwrap_or(0);
            prop_assert!(with_more.target(now, limits) <= most_at_once.max(least));
        }

        #[test]
        fn following_the_steps_ends_at_the_target_and_stays(
            mut takes in proptest::collection::vec(0u64..60_000, 0..50),
            mut waiting in 0usize..30,
        ) {
            takes.sort_unstable();
            let start = Instant::now();
            let now = after(start, 60_000);
            let demand = demand(start, &takes, true);
            for _ in 0..40 {
                match step(&demand, waiting, now, LIMITS) {
                    Step::Make => waiting += 1,
                    Step::End => waiting -= 1,
                    Step::Rest(until) => {
                        prop_assert!(until.is_none_or(|at| at > now));
                        break;
                    }
                }
            }
            prop_assert_eq!(waiting, demand.target(now, LIMITS));
        }
    }
}
