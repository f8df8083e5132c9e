//! Two sides that took turns in one run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::ratio::Ratio;

/// B against A.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// What is compared, for people: metric and conditions.
    pub title: String,
    /// Series of side A, the baseline.
    pub a: String,
    /// Series of side B.
    pub b: String,
    /// Rounds with samples on both sides.
    pub rounds: usize,
    /// Ratios B / A at quantiles, with bootstrap intervals of 95 %.
    pub ratios: Vec<Ratio>,
    /// How likely medians as far apart would be without any difference.
    pub p_value: f64,
    /// Resamples of both procedures.
    pub resamples: usize,
    /// `p_value` has to be below this.
    pub alpha: f64,
    /// And the ratio at least this far from 1, to matter: 0.05 is 5 %.
    pub floor: f64,
    /// What follows.
    pub finding: Finding,
}

/// What a comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The difference is not chance.
    pub real: bool,
    /// It is large enough to care.
    pub matters: bool,
    /// Both together.
    pub verdict: Verdict,
}

impl Finding {
    /// What follows of a ratio B / A of something of which less is better.
    #[must_use]
    pub fn judge(ratio: &Ratio, p_value: f64, alpha: f64, floor: f64) -> Self {
        let real = p_value < alpha;
        let matters = ratio.value >= 1.0 + floor || ratio.value <= 1.0 / (1.0 + floor);
        let verdict = match (ratio.supported, real && matters) {
            (false, _) => Verdict::Undecided,
            (true, false) => Verdict::Same,
            (true, true) if ratio.value > 1.0 => Verdict::Worse,
            (true, true) => Verdict::Better,
        };
        Self {
            real,
            matters,
            verdict,
        }
    }
}

/// The word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// B is really worse, and it matters.
    Worse,
    /// B is really better, and it matters.
    Better,
    /// No difference that is both real and matters.
    Same,
    /// Too few rounds or samples to say.
    Undecided,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::quantile::Quantile;

    #[test]
    fn a_finding_needs_both_and_enough() {
        let of = |value, supported, p_value| {
            let ratio = Ratio {
                quantile: Quantile::P50,
                value,
                low: value,
                high: value,
                supported,
            };
            Finding::judge(&ratio, p_value, 0.01, 0.05).verdict
        };
        assert_eq!(of(1.2, true, 0.001), Verdict::Worse);
        assert_eq!(of(0.8, true, 0.001), Verdict::Better);
        assert_eq!(of(1.2, true, 0.2), Verdict::Same);
        assert_eq!(of(1.02, true, 0.001), Verdict::Same);
        assert_eq!(of(1.2, false, 0.001), Verdict::Undecided);
    }
}
