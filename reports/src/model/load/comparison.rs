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
    /// And the ratio beyond `1 + floor` or its inverse, to matter: 0.05 is 5 %.
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
    /// What follows of a ratio B / A of something of which less is better. `enough`: there are rounds and samples enough to say.
    ///
    /// Bounds are as far from 1 on either side, as ratios are: A against B is the opposite of B against A.
    #[must_use]
    pub fn judge(ratio: f64, enough: bool, p_value: f64, alpha: f64, floor: f64) -> Self {
        let real = p_value < alpha;
        let matters = ratio.ln().abs() >= floor.ln_1p();
        let verdict = match (enough, real && matters) {
            (false, _) => Verdict::Undecided,
            (true, false) => Verdict::Same,
            (true, true) if ratio > 1.0 => Verdict::Worse,
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_finding_needs_both_and_enough() {
        let of =
            |ratio, enough, p_value| Finding::judge(ratio, enough, p_value, 0.01, 0.05).verdict;
        assert_eq!(of(1.2, true, 0.001), Verdict::Worse);
        assert_eq!(of(0.8, true, 0.001), Verdict::Better);
        assert_eq!(of(1.2, true, 0.2), Verdict::Same);
        assert_eq!(of(1.02, true, 0.001), Verdict::Same);
        assert_eq!(of(1.2, false, 0.001), Verdict::Undecided);
    }

    proptest! {
        #[test]
        fn sides_turned_around_give_the_opposite(ratio in 0.01f64..100.0, p_value in 0.0f64..0.02, floor in 0.0f64..0.9) {
            let one = Finding::judge(ratio, true, p_value, 0.01, floor);
            let other = Finding::judge(1.0 / ratio, true, p_value, 0.01, floor);
            // Within a rounding error of the bound both may be.
            prop_assume!((ratio.ln().abs() - floor.ln_1p()).abs() > 1e-12);
            let opposite = match one.verdict {
                Verdict::Worse => Verdict::Better,
                Verdict::Better => Verdict::Worse,
                same => same,
            };
            prop_assert_eq!(other.verdict, opposite);
            prop_assert_eq!((one.real, one.matters), (other.real, other.matters));
            prop_assert_eq!(one.matters, ratio >= 1.0 + floor || ratio <= 1.0 / (1.0 + floor));
        }
    }
}
