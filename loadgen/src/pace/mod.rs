//! When arrivals are due: pure values, no clock.
//!
//! ```text
//!   pattern (what was asked for) ──► pacer: arrival number → due ──┐
//!   bounds: how many, how long ───────────────────────────────────┼─► next(elapsed, sent) ─► Now · Wait · Stop
//!   elapsed, sent (what the driver knows) ────────────────────────┘
//! ```
//!
//! A due time depends on the arrival's number alone, never on when an earlier one was answered: that is what makes a loop open.
//! Due times never go back. An arrival that is late is still sent, and its latency counts from when it was due.

pub mod burst;
pub mod constant;
pub mod parse;
pub mod poisson;
pub mod ramp;
pub mod sine;
pub mod staggered;
pub mod trace;

use std::fmt::Debug;
use std::time::Duration;

/// A schedule of arrivals.
pub trait Pacer: Debug + Send {
    /// When arrival number `sent` (from 0) is due, from the beginning of the run; `None` when there is no such arrival.
    ///
    /// For `a < b`, `due(a) <= due(b)`.
    fn due(&mut self, sent: u64) -> Option<Duration>;
}

/// How far a run goes, whichever comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Most arrivals; `None`: no such bound.
    pub number: Option<u64>,
    /// No arrival is due at or after this; `None`: no such bound.
    pub duration: Option<Duration>,
}

/// What the driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send now: it was due `due` after the beginning.
    Now {
        /// When it was due.
        due: Duration,
    },
    /// Wait that long, then ask again.
    Wait {
        /// How long.
        wait: Duration,
    },
    /// No more arrivals.
    Stop,
}

/// Given how much time has passed and how many were sent: what is next?
pub fn next(pacer: &mut dyn Pacer, bounds: Bounds, elapsed: Duration, sent: u64) -> Next {
    if bounds.number.is_some_and(|number| sent >= number) {
        return Next::Stop;
    }
    let Some(due) = pacer.due(sent) else {
        return Next::Stop;
    };
    if bounds.duration.is_some_and(|duration| due >= duration) {
        return Next::Stop;
    }
    match due.checked_sub(elapsed) {
        Some(wait) if !wait.is_zero() => Next::Wait { wait },
        _ => Next::Now { due },
    }
}

/// Seconds as a duration; what is negative or no number is zero, what is too long is the longest.
fn seconds(seconds: f64) -> Duration {
    if seconds.is_nan() || seconds <= 0.0 {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// An arrival's number as a float: exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "runs have far fewer than 2^53 arrivals"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parse::Pattern;
    use super::*;

    /// Any pattern, with rates and times of everyday sizes.
    fn patterns() -> impl Strategy<Value = Pattern> {
        let rate = || 0.1f64..10_000.0;
        let time = || (1u64..600_000).prop_map(Duration::from_millis);
        prop_oneof![
            rate().prop_map(|rate| Pattern::Constant { rate }),
            (rate(), any::<u64>()).prop_map(|(rate, seed)| Pattern::Poisson { rate, seed }),
            (rate(), rate(), time()).prop_map(|(from, to, over)| Pattern::Ramp { from, to, over }),
            (rate(), 0.0f64..=1.0, time()).prop_map(|(mean, share, period)| Pattern::Sine {
                mean,
                amplitude: mean * share,
                period
            }),
            (1u64..500, time()).prop_map(|(size, every)| Pattern::Burst { size, every }),
            time().prop_map(|gap| Pattern::Staggered { gap }),
            prop::collection::vec(time(), 0..50)
                .prop_map(|dues| Pattern::Trace { dues, speed: 1.0 }),
        ]
    }

    proptest! {
        #[test]
        fn due_times_never_go_back_and_do_not_depend_on_the_order_of_asking(pattern in patterns(), jump in 1u64..300) {
            let mut asked_in_turn = pattern.pacer();
            let mut last = Duration::ZERO;
            let mut all = Vec::new();
            for sent in 0..300 {
                let due = asked_in_turn.due(sent);
                if let Some(due) = due {
                    prop_assert!(due >= last, "{due:?} after {last:?}");
                    last = due;
                }
                all.push(due);
            }
            let mut asked_anyhow = pattern.pacer();
            for sent in [jump, 0, jump - 1, 299, jump] {
                prop_assert_eq!(asked_anyhow.due(sent), all[usize::try_from(sent).unwrap()]);
            }
        }

        #[test]
        fn a_driver_that_obeys_sends_each_arrival_once_and_none_early(
            pattern in patterns(), number in 0u64..200, millis in 0u64..60_000, late in 0u64..50)
        {
            let bounds = Bounds { number: Some(number), duration: Some(Duration::from_millis(millis)) };
            let mut pacer = pattern.pacer();
            let mut elapsed = Duration::ZERO;
            let mut sent = 0;
            loop {
                match next(&mut *pacer, bounds, elapsed, sent) {
                    Next::Stop => break,
                    // The driver wakes up late, as drivers do.
                    Next::Wait { wait } => elapsed += wait + Duration::from_micros(late),
                    Next::Now { due } => {
                        prop_assert!(due <= elapsed);
                        prop_assert_eq!(Some(due), pacer.due(sent));
                        sent += 1;
                    }
                }
            }
            prop_assert!(sent <= number);
            // It stopped for a reason.
            let due = pacer.due(sent);
            prop_assert!(sent == number || due.is_none_or(|due| due >= Duration::from_millis(millis)));
        }

        #[test]
        fn a_stall_of_the_driver_makes_no_arrival_disappear(rate in 1.0f64..1000.0, stall in 1u64..5_000) {
            let bounds = Bounds { number: None, duration: Some(Duration::from_secs(10)) };
            let mut pacer = Pattern::Constant { rate }.pacer();
            let (mut elapsed, mut sent, mut stalled) = (Duration::ZERO, 0, false);
            loop {
                match next(&mut *pacer, bounds, elapsed, sent) {
                    Next::Stop => break,
                    Next::Wait { wait } => elapsed += wait,
                    Next::Now { .. } => {
                        sent += 1;
                        if !stalled && elapsed > Duration::from_secs(1) {
                            stalled = true;
                            elapsed += Duration::from_millis(stall);
                        }
                    }
                }
            }
            let planned = (0..).take_while(|&k| pacer.due(k).unwrap() < Duration::from_secs(10)).count();
            prop_assert_eq!(sent, u64::try_from(planned).unwrap());
        }
    }
}
