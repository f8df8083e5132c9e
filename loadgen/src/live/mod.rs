//! What a run looks like while it goes on.
//!
//! On a terminal one line that is drawn again; elsewhere a plain line now and then, good for a log.

pub mod display;
pub mod line;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::record::{Outcome, histogram};

pub use self::display::Display;

/// Numbers so far.
#[derive(Debug)]
pub struct Live {
    /// The series whose quantiles are shown.
    headline: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    numbers: Numbers,
    values: Histogram<u64>,
}

/// What is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers {
    /// Turns that are over.
    pub done: u64,
    /// Turns that were not sent.
    pub dropped: u64,
    /// Failures by kind.
    pub failures: BTreeMap<String, u64>,
    /// P50, P95 and P99 of the headline series, in nanoseconds; none before the first success.
    pub quantiles: Option<[u64; 3]>,
}

impl Live {
    /// Nothing so far; quantiles will be those of the series with this index, and of those with the indices after it by side.
    #[must_use]
    pub fn new(headline: usize) -> Self {
        Self {
            headline,
            state: Mutex::new(State {
                numbers: Numbers::default(),
                values: histogram::empty(),
            }),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A turn is over.
    pub fn turn(&self, outcome: &Outcome) {
        self.change(|state| {
            state.numbers.done += 1;
            // One failure a turn, however many series it is missing in.
            let failed = outcome
                .readings
                .iter()
                .find_map(|reading| reading.result.as_ref().err());
            if let Some(kind) = failed {
                *state.numbers.failures.entry(kind.clone()).or_default() += 1;
            }
            for reading in &outcome.readings {
                if let (true, Ok(value)) = (reading.series == self.headline, &reading.result) {
                    histogram::record(&mut state.values, *value);
                }
            }
        });
    }

    /// A turn was not sent.
    pub fn dropped(&self) {
        self.change(|state| state.numbers.dropped += 1);
    }

    /// What to show now.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |q| state.values.value_at_quantile(q);
        Numbers {
            quantiles: (!state.values.is_empty()).then(|| [at(0.5), at(0.95), at(0.99)]),
            ..state.numbers.clone()
        }
    }
}
