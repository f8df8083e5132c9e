//! Ours against the peer: a ratio of quantiles, how sure it is, and whether there is a difference at all.
//!
//! Both resample *rounds*, in which the two were measured one after the other: a machine that is slow for a minute slows both
//! sides of the same rounds.
//!
//! - interval: rounds are drawn with replacement; the middle 95 % of the ratios that come out.
//! - permutation test: were there no difference, it would not matter which side of a round is called which; how often do
//!   random names give a ratio of medians as far from 1 as the one seen?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantile::{Quantile, at};
use super::random::Random;
use super::{FEW_ROUNDS, count, float};

/// Resamples of both procedures.
pub const RESAMPLES: usize = 9_999;
/// Seed of both, so that a report can be made again from its samples.
pub const SEED: u64 = 0x5eed_2026;

/// One round: samples of ours, samples of the peer.
pub type Round = (Vec<u64>, Vec<u64>);

/// A ratio ours / peer at a quantile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// The quantile of both.
    pub quantile: Quantile,
    /// The ratio.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Whether the samples of both sides support the quantile, and the rounds are enough for an interval.
    pub supported: bool,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Ratios at the shown quantiles.
    pub ratios: Vec<Ratio>,
    /// Rounds that had samples on both sides.
    pub rounds: usize,
    /// How likely a ratio of medians this far from 1 would be without any difference.
    pub p_value: f64,
}

/// Compares; `None` when a side has no samples. Rounds in which a side has none (all failed) are left out.
#[must_use]
pub fn compare(rounds: &[Round], resamples: usize, seed: u64) -> Option<Comparison> {
    let rounds: Vec<&Round> = rounds
        .iter()
        .filter(|(ours, peer)| !ours.is_empty() && !peer.is_empty())
        .collect();
    let seen = quantiles(rounds.iter().map(|(a, b)| (a, b)))?;
    let mut drawn: [Vec<f64>; 3] = Default::default();
    let mut random = Random::new(seed);
    for _ in 0..resamples {
        let picks: Vec<usize> = rounds.iter().map(|_| random.below(rounds.len())).collect();
        let resample = picks.iter().map(|&i| (&rounds[i].0, &rounds[i].1));
        for (all, one) in drawn.iter_mut().zip(quantiles(resample)?) {
            all.push(one);
        }
    }
    let enough = |q: Quantile| {
        let n = |side: fn(&Round) -> usize| rounds.iter().map(|round| side(round)).sum::<usize>();
        q.supported(n(|r| r.0.len()).min(n(|r| r.1.len()))) && rounds.len() >= FEW_ROUNDS
    };
    let ratios = Quantile::SHOWN
        .into_iter()
        .zip(seen)
        .zip(drawn)
        .map(|((quantile, value), mut drawn)| {
            drawn.sort_unstable_by(f64::total_cmp);
            let cut = |share: usize| {
                let index = (drawn.len() * share / 1000).min(drawn.len().saturating_sub(1));
                drawn.get(index).copied().unwrap_or(value)
            };
            Ratio {
                quantile,
                value,
                low: cut(25),
                high: cut(975),
                supported: enough(quantile),
            }
        })
        .collect();
    Some(Comparison {
        ratios,
        rounds: rounds.len(),
        p_value: permutation(&rounds, seen[0], resamples, &mut random)?,
    })
}

fn permutation(rounds: &[&Round], seen: f64, resamples: usize, random: &mut Random) -> Option<f64> {
    // A hair less than seen counts as seen: the same samples summed up another way must not.
    let bound = seen.ln().abs() - 1e-12;
    let mut as_far = 0;
    for _ in 0..resamples {
        let swaps: Vec<bool> = rounds.iter().map(|_| random.coin()).collect();
        let renamed = rounds
            .iter()
            .zip(&swaps)
            .map(|((a, b), &swap)| if swap { (b, a) } else { (a, b) });
        if quantiles(renamed)?[0].ln().abs() >= bound {
            as_far += 1;
        }
    }
    Some((count(as_far) + 1.0) / (count(resamples) + 1.0))
}

/// Ratios at the shown quantiles of all rounds together.
fn quantiles<'a>(rounds: impl Iterator<Item = (&'a Vec<u64>, &'a Vec<u64>)>) -> Option<[f64; 3]> {
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for (a, b) in rounds {
        ours.extend_from_slice(a);
        peer.extend_from_slice(b);
    }
    ours.sort_unstable();
    peer.sort_unstable();
    let mut found = [0.0; 3];
    for (slot, quantile) in found.iter_mut().zip(Quantile::SHOWN) {
        // A zero cannot be measured; one nanosecond keeps the ratio finite.
        *slot = float(at(&ours, quantile)?) / float(at(&peer, quantile)?.max(1));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(random: &mut Random, around: u64) -> u64 {
        around + random.below(usize::try_from(around / 5).unwrap()) as u64
    }

    #[test]
    fn a_known_ratio_is_within_its_interval_and_real() {
        let mut random = Random::new(3);
        let rounds: Vec<Round> = (0..40)
            .map(|round| {
                // The machine's mood changes threefold between rounds.
                let mood = 1 + round % 3;
                let mut side =
                    |base: u64| (0..5).map(|_| noise(&mut random, base * mood)).collect();
                (side(50_000), side(100_000))
            })
            .collect();
        let found = compare(&rounds, 999, 1).unwrap();
        let median = found.ratios[0];
        assert!(median.low < 0.5 && 0.5 < median.high, "{median:?}");
        assert!(median.high - median.low < 0.3, "{median:?}");
        assert!(median.supported && found.ratios[1].supported && !found.ratios[2].supported);
        assert!(found.p_value < 0.01, "{}", found.p_value);
        assert_eq!(found.rounds, 40);
    }

    #[test]
    fn no_difference_is_seldom_called_one() {
        let mut random = Random::new(4);
        let mut called = 0;
        for trial in 0..200 {
            let rounds: Vec<Round> = (0..10)
                .map(|_| {
                    let mut side = || (0..3).map(|_| noise(&mut random, 1000)).collect();
                    (side(), side())
                })
                .collect();
            called += u32::from(compare(&rounds, 199, trial).unwrap().p_value <= 0.05);
        }
        assert!(called <= 20, "{called} of 200 at a level of 5 %");
    }

    #[test]
    fn few_rounds_are_said_to_be_few() {
        let round: Round = ((0..300).collect(), (0..300).collect());
        let found = compare(&vec![round; 7], 99, 1).unwrap();
        assert!(found.ratios.iter().all(|ratio| !ratio.supported));
    }

    #[test]
    fn nothing_is_compared_with_nothing() {
        assert_eq!(compare(&[], 9, 1), None);
        assert_eq!(compare(&[(vec![1], vec![])], 9, 1), None);
    }

    proptest! {
        #[test]
        fn the_interval_is_around_and_scales(
            rounds in prop::collection::vec(
                (prop::collection::vec(1u64..1_000_000, 1..6), prop::collection::vec(1u64..1_000_000, 1..6)), 1..12),
            factor in 2u64..10,
        ) {
            let found = compare(&rounds, 99, 7).unwrap();
            prop_assert!(found.p_value > 0.0 && found.p_value <= 1.0);
            for ratio in &found.ratios {
                prop_assert!(ratio.low <= ratio.high && ratio.low > 0.0);
            }
            // Ours slower by a factor: every number grows by it.
            let slower: Vec<Round> =
                rounds.iter().map(|(a, b)| (a.iter().map(|s| s * factor).collect(), b.clone())).collect();
            let then = compare(&slower, 99, 7).unwrap();
            for (a, b) in found.ratios.iter().zip(&then.ratios) {
                prop_assert!((a.value * float(factor) / b.value - 1.0).abs() < 1e-9);
                prop_assert!((a.high * float(factor) / b.high - 1.0).abs() < 1e-9);
            }
            // The same seed, the same report.
            prop_assert_eq!(compare(&rounds, 99, 7), Some(found));
        }
    }
}
