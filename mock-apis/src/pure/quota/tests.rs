//! Each quota against what its name promises, over any sequence of calls on a clock of its own.

use std::time::Duration;

use proptest::prelude::*;

use super::{Limit, QuotaError};

fn limits() -> impl Strategy<Value = Limit> {
    prop_oneof![
        (1_u32..20, 1_u64..200)
            .prop_map(|(burst, refill_ms)| Limit::TokenBucket { burst, refill_ms }),
        (1_u32..20, 1_u64..500)
            .prop_map(|(limit, window_ms)| Limit::FixedWindow { limit, window_ms }),
        (1_u32..20, 1_u64..500)
            .prop_map(|(limit, window_ms)| Limit::SlidingWindow { limit, window_ms }),
    ]
}

/// Instants of the calls that were served.
fn served(limit: &Limit, gaps: &[u64]) -> Vec<u64> {
    let (mut state, mut now) = (limit.fresh(), 0);
    let mut served = Vec::new();
    for gap in gaps {
        now += gap;
        let taken = state.take(Duration::from_millis(now));
        if taken.allowed {
            served.push(now);
        }
        // Whoever is told to wait is told the truth: a call after that wait is served, and one a moment before is not.
        assert_eq!(taken.remaining == 0, taken.wait > Duration::ZERO);
    }
    served
}

proptest! {
    #[test]
    fn no_window_serves_more_than_its_limit(limit in limits(), gaps in prop::collection::vec(0_u64..100, 1..300)) {
        let served = served(&limit, &gaps);
        for (i, begin) in served.iter().enumerate() {
            match limit {
                Limit::TokenBucket { burst, refill_ms } => for (count, end) in served[i..].iter().enumerate() {
                    prop_assert!((count as u64) < u64::from(burst) + (end - begin) / refill_ms);
                },
                Limit::FixedWindow { limit, window_ms } => {
                    let same = served.iter().filter(|at| **at / window_ms == begin / window_ms).count();
                    prop_assert!(same <= limit as usize);
                }
                Limit::SlidingWindow { limit, window_ms } => {
                    let within = served[i..].iter().filter(|at| **at < begin + window_ms).count();
                    prop_assert!(within <= limit as usize);
                }
            }
        }
    }

    #[test]
    fn who_waits_as_told_is_served_and_no_sooner(limit in limits(), gaps in prop::collection::vec(0_u64..20, 1..100)) {
        let (mut state, mut now) = (limit.fresh(), Duration::ZERO);
        for gap in gaps {
            now += Duration::from_millis(gap);
            let taken = state.take(now);
            if taken.wait > Duration::ZERO {
                let early = state.take(now + taken.wait - Duration::from_nanos(1));
                prop_assert!(!early.allowed);
                now += taken.wait;
                prop_assert!(state.take(now).allowed);
            }
        }
    }
}

#[test]
fn a_burst_goes_through_and_then_one_each_refill() {
    let mut state = Limit::TokenBucket {
        burst: 2,
        refill_ms: 100,
    }
    .fresh();
    let allowed =
        [0, 0, 0, 99, 100, 150, 200].map(|ms| state.take(Duration::from_millis(ms)).allowed);
    assert_eq!(allowed, [true, true, false, false, true, false, true]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    assert_eq!(
        Limit::FixedWindow {
            limit: 0,
            window_ms: 1
        }
        .check(),
        Err(QuotaError)
    );
    assert_eq!(
        Limit::TokenBucket {
            burst: 1,
            refill_ms: 0
        }
        .check(),
        Err(QuotaError)
    );
    assert_eq!(
        Limit::SlidingWindow {
            limit: 1,
            window_ms: 1
        }
        .check(),
        Ok(())
    );
}
