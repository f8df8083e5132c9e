//! Two sides that took turns: is there a difference, and does it matter?
//!
//! ```text
//!   rounds  A B · B A · A B · …        a round is a few turns of each side, one side after the other
//!   judge   sides turned around within rounds (≥ 9,999 times) ─► real?     mean ratio of the rounds' medians ─► matters?
//! ```
//!
//! The verdict is of the paired comparison, in which the machine's moods cancel; the ratios of pooled quantiles stand beside it.

use std::collections::BTreeMap;
use std::fmt::Write;

use reports::model::load::{Comparison, Finding, Verdict};
use reports::stats::FEW_ROUNDS;
use reports::stats::paired;
use reports::stats::ratio::{self, RESAMPLES, Round};

/// How sure to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Share of false alarms that is taken, 0 to 1.
    pub alpha: f64,
    /// Least difference of medians that matters, as a share: at 0.05 ratios of 1.05 or more, or of 1 / 1.05 or less.
    pub floor: f64,
    /// Resamples, at least [`RESAMPLES`] outside of tests.
    pub resamples: usize,
    /// Seed.
    pub seed: u64,
}

impl Level {
    /// One alarm in a hundred without a cause, and 5 % to matter.
    #[must_use]
    pub fn usual(seed: u64) -> Self {
        Self {
            alpha: 0.01,
            floor: 0.05,
            resamples: RESAMPLES,
            seed,
        }
    }
}

/// Values by round, of side A and of side B.
pub type Rounds = BTreeMap<u32, (Vec<u64>, Vec<u64>)>;

/// Judges B against A; `None` when a side has no values.
#[must_use]
pub fn judge(
    title: &str,
    names: (&str, &str),
    rounds: &Rounds,
    level: Level,
) -> Option<Comparison> {
    // Ratios are of the first to the second: B over A.
    let swapped: Vec<Round> = rounds
        .values()
        .map(|(a, b)| (b.clone(), a.clone()))
        .collect();
    let found = ratio::compare(&swapped, level.resamples, level.seed)?;
    let paired = paired::compare(&swapped, level.resamples, level.seed)?;
    Some(Comparison {
        title: title.to_owned(),
        a: names.0.to_owned(),
        b: names.1.to_owned(),
        rounds: found.rounds,
        p_value: paired.p_value,
        ratios: found.ratios,
        resamples: level.resamples,
        alpha: level.alpha,
        floor: level.floor,
        finding: Finding::judge(
            paired.ratio,
            paired.rounds >= FEW_ROUNDS,
            paired.p_value,
            level.alpha,
            level.floor,
        ),
    })
}

/// For a terminal.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut out = format!("\n{} ({} rounds): ", comparison.title, comparison.rounds);
    let verdict = match comparison.finding.verdict {
        Verdict::Worse => "B is slower",
        Verdict::Better => "B is faster",
        Verdict::Same => "no difference that is both real and large enough",
        Verdict::Undecided => "too few rounds to say",
    };
    let _ = writeln!(
        out,
        "{verdict} (p = {:.4}, level {}, floor {:.0} %)",
        comparison.p_value,
        comparison.alpha,
        comparison.floor * 100.0
    );
    for (name, ratio) in ["P50", "P95", "P99"].iter().zip(&comparison.ratios) {
        let mark = if ratio.supported { "" } else { "  n too small" };
        let _ = writeln!(
            out,
            "  {name} B / A  {:.3}  ({:.3}–{:.3}){mark}",
            ratio.value, ratio.low, ratio.high
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use reports::stats::random::Random;

    use super::*;

    const LEVEL: Level = Level {
        alpha: 0.01,
        floor: 0.05,
        resamples: 999,
        seed: 1,
    };

    /// Rounds of five turns each on a machine whose mood changes, B which takes `slower` in a hundred as long.
    fn rounds(n: u32, slower: u64, seed: u64) -> Rounds {
        let mut random = Random::new(seed);
        let mut side = |mood: u64, factor: u64| -> Vec<u64> {
            (0..5)
                .map(|_| {
                    let base = (1_000_000 + random.below(300_000) as u64) * mood;
                    base * factor / 100
                })
                .collect()
        };
        (0..n)
            .map(|round| {
                let mood = 1 + u64::from(round % 3);
                (round, (side(mood, 100), side(mood, slower)))
            })
            .collect()
    }

    #[test]
    fn a_fifth_more_is_found_and_said_to_matter() {
        let found = judge("t", ("A", "B"), &rounds(20, 120, 1), LEVEL).unwrap();
        assert_eq!(found.finding.verdict, Verdict::Worse, "{found:?}");
        assert!(found.ratios[0].low < 1.2 && 1.2 < found.ratios[0].high);
        let faster = judge("t", ("A", "B"), &rounds(20, 80, 1), LEVEL).unwrap();
        assert_eq!(faster.finding.verdict, Verdict::Better);
    }

    #[test]
    fn the_same_build_twice_raises_no_alarm() {
        let alarms = (0..20)
            .filter(|&seed| {
                let found = judge("t", ("A", "B"), &rounds(12, 100, 100 + seed), LEVEL).unwrap();
                found.finding.verdict != Verdict::Same
            })
            .count();
        assert!(alarms <= 1, "{alarms} of 20 at a level of 1 %");
    }

    #[test]
    fn what_is_real_but_small_does_not_matter_and_few_rounds_say_nothing() {
        let small = judge("t", ("A", "B"), &rounds(400, 103, 1), LEVEL).unwrap();
        let finding = small.finding;
        assert_eq!(finding.verdict, Verdict::Same, "{small:?}");
        assert!(finding.real && !finding.matters, "{small:?}");
        let of = |n| judge("t", ("A", "B"), &rounds(n, 150, 1), LEVEL).unwrap();
        assert_eq!(of(7).finding.verdict, Verdict::Undecided);
        assert_eq!(of(8).finding.verdict, Verdict::Worse);
    }
}
