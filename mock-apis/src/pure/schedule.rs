//! When a rule's fault happens.
//!
//! ```text
//! always           x x x x x x      first: 2         x x . . . .
//! nth: [2, 4]      . x . x . .      probability: p   each call for itself
//! window           by time          ramp             probability that moves from one value to another
//! ```

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A schedule; times are milliseconds since the scenario was started or reset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Every call.
    #[default]
    Always,
    /// These calls of a caller, counted from 1.
    Nth(Vec<u64>),
    /// The first so many calls of a caller; later ones are served.
    First(u64),
    /// Each call with this probability, 0 to 1.
    Probability(f64),
    /// Calls from `from_ms` until before `to_ms`.
    Window {
        /// First instant.
        from_ms: u64,
        /// First instant that is outside again.
        to_ms: u64,
    },
    /// A probability that moves evenly from `from` to `to` within `over_ms`, and stays there.
    Ramp {
        /// Probability at the start.
        from: f64,
        /// Probability at the end.
        to: f64,
        /// How long the way takes.
        over_ms: u64,
    },
}

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// A probability outside its range.
    #[error("a probability is between 0 and 1, not {0}")]
    Probability(f64),
    /// A window without an instant in it.
    #[error("a window ends after it begins")]
    EmptyWindow,
    /// Calls are counted from 1.
    #[error("calls are counted from 1")]
    ZerothCall,
}

impl Schedule {
    /// Whether the fault happens at a caller's `n`-th call (from 1), `at` after the start, with `draw` in 0 ≤ x < 1.
    pub fn fires(&self, n: u64, at: Duration, draw: f64) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(calls) => calls.contains(&n),
            Self::First(count) => n <= *count,
            Self::Probability(p) => draw < *p,
            Self::Window { from_ms, to_ms } => {
                (Duration::from_millis(*from_ms)..Duration::from_millis(*to_ms)).contains(&at)
            }
            Self::Ramp { from, to, over_ms } => {
                let over = Duration::from_millis(*over_ms);
                let way = if at >= over {
                    1.0
                } else {
                    at.as_secs_f64() / over.as_secs_f64()
                };
                draw < from + (to - from) * way
            }
        }
    }

    /// Whether the values make sense.
    pub fn check(&self) -> Result<(), ScheduleError> {
        let probability = |p: f64| {
            if (0.0..=1.0).contains(&p) {
                Ok(())
            } else {
                Err(ScheduleError::Probability(p))
            }
        };
        match self {
            Self::Always | Self::First(_) => Ok(()),
            Self::Nth(calls) if calls.contains(&0) => Err(ScheduleError::ZerothCall),
            Self::Nth(_) => Ok(()),
            Self::Probability(p) => probability(*p),
            Self::Window { from_ms, to_ms } if from_ms >= to_ms => Err(ScheduleError::EmptyWindow),
            Self::Window { .. } => Ok(()),
            Self::Ramp { from, to, .. } => probability(*from).and_then(|()| probability(*to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::seed;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn first_n_fail_and_then_it_recovers_for_good(count in 0_u64..50, n in 1_u64..100) {
            prop_assert_eq!(Schedule::First(count).fires(n, Duration::ZERO, 0.0), n <= count);
        }

        #[test]
        fn a_probability_is_met_in_the_long_run_and_repeats_with_its_seed(p in 0.05_f64..0.95, seed in any::<u64>()) {
            let run = || (1..=300)
                .map(|n| Schedule::Probability(p).fires(n, Duration::ZERO, seed::unit(&mut seed::generator(seed, &["x"], n))))
                .collect::<Vec<_>>();
            let calls = run();
            prop_assert_eq!(&calls, &run());
            let share = calls.iter().map(|fired| f64::from(u8::from(*fired))).sum::<f64>() / 300.0;
            // Six standard deviations.
            prop_assert!((share - p).abs() < 6.0 * (p * (1.0 - p) / 300.0).sqrt(), "{} for {}", share, p);
        }

        #[test]
        fn a_window_is_half_open(from in 0_u64..1000, length in 1_u64..1000, at in 0_u64..3000) {
            let window = Schedule::Window { from_ms: from, to_ms: from + length };
            prop_assert_eq!(window.fires(1, Duration::from_millis(at), 0.0), at >= from && at < from + length);
        }

        #[test]
        fn a_ramp_never_leaves_its_ends_and_only_moves_one_way(from in 0.0_f64..1.0, to in 0.0_f64..1.0, draw in 0.0_f64..1.0, over in 0_u64..1000, a in 0_u64..2000, b in 0_u64..2000) {
            let ramp = Schedule::Ramp { from, to, over_ms: over };
            let fires = |ms| ramp.fires(1, Duration::from_millis(ms), draw);
            let (early, late) = (fires(a.min(b)), fires(a.max(b)));
            if to >= from { prop_assert!(!early || late) } else { prop_assert!(!late || early) }
            if draw >= from.max(to) { prop_assert!(!fires(a)) }
            if draw < from.min(to) { prop_assert!(fires(a)) }
        }
    }

    #[test]
    fn nth_and_always() {
        let fired = |schedule: &Schedule| {
            (1..=5)
                .filter(|n| schedule.fires(*n, Duration::ZERO, 0.5))
                .collect::<Vec<_>>()
        };
        assert_eq!(fired(&Schedule::Nth(vec![2, 4])), [2, 4]);
        assert_eq!(fired(&Schedule::Always), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn senseless_values_are_refused() {
        assert_eq!(
            Schedule::Probability(1.5).check(),
            Err(ScheduleError::Probability(1.5))
        );
        assert!(Schedule::Probability(f64::NAN).check().is_err());
        assert_eq!(
            Schedule::Window {
                from_ms: 5,
                to_ms: 5
            }
            .check(),
            Err(ScheduleError::EmptyWindow)
        );
        assert_eq!(
            Schedule::Nth(vec![0]).check(),
            Err(ScheduleError::ZerothCall)
        );
        assert!(
            Schedule::Ramp {
                from: 0.0,
                to: 1.0,
                over_ms: 0
            }
            .check()
            .is_ok()
        );
    }
}
