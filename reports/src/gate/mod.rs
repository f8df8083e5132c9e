//! Is the new run really worse than the baseline?
//!
//! ```text
//!  report + samples of both ─► pair ─── per series one number per round and side ─► judge ─► verdict ─► exit code
//!                                │                                                    │
//!                                │ one run, taking turns: rounds in pairs             │ permutation test, one-sided
//!                                │ two runs with a reference side: B / A in each      │ bootstrap interval
//!                                └ two runs on one machine, where asked for           └ floor; Holm over all series
//! ```
//!
//! Times of two runs are not compared as they are: the machine's mood between them is a difference that no test can tell from a
//! regression. Either both sides took turns in one run, or each run has a reference side of its own.
//!
//! The chance that a gate of two equal builds fails is at most `alpha`, over all its series together.

pub mod judge;
pub mod pair;

use serde::Serialize;

use self::judge::{Judged, Measure, Rules, TooFew};
use self::pair::Pair;

/// One series of the baseline with what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Metric, clock and conditions.
    pub title: String,
    /// What was judged: `time`, `rate`, `size` or `failures`.
    pub what: &'static str,
    /// Whether the effect is a ratio or a difference of shares.
    pub measure: Measure,
    /// Why nothing could be said.
    pub undecided: Option<TooFew>,
    /// What was found.
    pub found: Option<Judged>,
    /// Real, after correction for the number of series.
    pub real: bool,
    /// Beyond the floor.
    pub matters: bool,
}

impl Line {
    /// Whether it is a regression.
    #[must_use]
    pub fn worse(&self) -> bool {
        self.real && self.matters
    }
}

/// Judges all pairs.
#[must_use]
pub fn gate(pairs: &[Pair], rules: &Rules) -> Vec<Line> {
    let judged: Vec<_> = pairs
        .iter()
        .enumerate()
        .map(|(index, pair)| judge::judge(&pair.sides, rules, pairs.len(), index))
        .collect();
    let p_values: Vec<f64> = judged
        .iter()
        .map(|one| one.as_ref().map_or(1.0, |one| one.p_value))
        .collect();
    let real = judge::holm(&p_values, rules.alpha);
    pairs
        .iter()
        .zip(judged)
        .zip(real)
        .map(|((pair, judged), real)| Line {
            title: pair.title.clone(),
            what: pair.what,
            measure: pair.sides.measure,
            matters: judged.as_ref().is_ok_and(|one| one.matters),
            undecided: judged.as_ref().err().copied(),
            found: judged.ok(),
            real,
        })
        .collect()
}
