//! Two sides that took turns, compared within their rounds.
//!
//! A round gives one number: the logarithm of its ratio of medians. The machine's mood is in both sides of a round and cancels; what
//! is left of it in pooled samples would hide a difference smaller than the mood. The effect is the geometric mean of the rounds'
//! ratios; the test turns the sides of rounds around at random (sign flips) and asks how often that gives an effect as far from 1.

use super::quantile::{Quantile, at};
use super::random::Random;
use super::ratio::Round;
use super::{count, float};

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// Geometric mean over the rounds of first / second.
    pub ratio: f64,
    /// Lower end of the 95 % interval: rounds drawn with replacement.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How likely an effect as far from 1 would be without any difference; at least 1 / (resamples + 1).
    pub p_value: f64,
    /// Rounds with samples on both sides.
    pub rounds: usize,
}

/// Compares first to second; `None` when no round has samples on both sides.
#[must_use]
pub fn compare(rounds: &[Round], resamples: usize, seed: u64) -> Option<Paired> {
    let logs: Vec<f64> = rounds.iter().filter_map(log_ratio).collect();
    let seen = mean(logs.iter().copied(), logs.len())?;
    let mut random = Random::new(seed);
    let mut drawn = Vec::with_capacity(resamples);
    let mut as_far = 0;
    for _ in 0..resamples {
        let draw = (0..logs.len()).map(|_| logs[random.below(logs.len())]);
        drawn.push(mean(draw, logs.len())?);
        let flip = logs
            .iter()
            .map(|&log| if random.coin() { log } else { -log });
        // A hair less than seen counts as seen: the same numbers summed up another way must not.
        as_far += usize::from(mean(flip, logs.len())?.abs() >= seen.abs() - 1e-12);
    }
    drawn.sort_unstable_by(f64::total_cmp);
    let cut = |share: usize| {
        let index = (drawn.len() * share / 1000).min(drawn.len().saturating_sub(1));
        drawn.get(index).copied().unwrap_or(seen).exp()
    };
    Some(Paired {
        ratio: seen.exp(),
        low: cut(25),
        high: cut(975),
        p_value: (count(as_far) + 1.0) / (count(resamples) + 1.0),
        rounds: logs.len(),
    })
}

/// Logarithm of a round's ratio of medians.
fn log_ratio((first, second): &Round) -> Option<f64> {
    let median = |side: &[u64]| {
        let mut sorted = side.to_vec();
        sorted.sort_unstable();
        // A zero cannot be measured; one nanosecond keeps the ratio finite.
        at(&sorted, Quantile::P50).map(|median| float(median.max(1)))
    };
    Some((median(first)? / median(second)?).ln())
}

fn mean(values: impl Iterator<Item = f64>, n: usize) -> Option<f64> {
    (n > 0).then(|| values.sum::<f64>() / count(n))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rounds of five samples a side on a machine whose mood changes threefold; the first side takes `factor` as long, in percent.
    fn rounds(n: u64, factor: u64, random: &mut Random) -> Vec<Round> {
        let side = |mood: u64, factor: u64, random: &mut Random| {
            let one = |_| (100_000 + random.below(30_000) as u64) * mood * factor / 100;
            (0..5).map(one).collect()
        };
        (0..n)
            .map(|round| {
                let mood = 1 + round % 3;
                (side(mood, factor, random), side(mood, 100, random))
            })
            .collect()
    }

    #[test]
    fn a_fifth_more_is_found_through_moods_three_times_as_large() {
        let mut random = Random::new(1);
        let found = compare(&rounds(20, 120, &mut random), 9_999, 1).unwrap();
        assert!(found.p_value < 0.001, "{found:?}");
        assert!(
            found.low < 1.2 && 1.2 < found.high && found.high - found.low < 0.1,
            "{found:?}"
        );
    }

    #[test]
    fn without_a_difference_alarms_are_as_seldom_as_promised() {
        let mut random = Random::new(2);
        let mut alarms = 0;
        for trial in 0..400 {
            let found = compare(&rounds(12, 100, &mut random), 199, trial).unwrap();
            alarms += u32::from(found.p_value <= 0.05);
        }
        // Binomial(400, 0.05): 20 expected, beyond 36 less than once in a thousand.
        assert!(alarms <= 36, "{alarms} of 400 at a level of 5 %");
    }

    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        let mut random = Random::new(3);
        let held = (0..200)
            .filter(|&trial| {
                let found = compare(&rounds(20, 110, &mut random), 399, trial).unwrap();
                (found.low..=found.high).contains(&1.1)
            })
            .count();
        // Bootstrap intervals of few rounds are a little narrow.
        assert!(held >= 175, "{held} of 200");
    }

    proptest! {
        #[test]
        fn sides_turned_around_give_the_inverse(
            rounds in prop::collection::vec((prop::collection::vec(1u64..1_000_000, 0..5), prop::collection::vec(1u64..1_000_000, 0..5)), 0..10))
        {
            let turned: Vec<Round> = rounds.iter().map(|(a, b)| (b.clone(), a.clone())).collect();
            match (compare(&rounds, 99, 1), compare(&turned, 99, 1)) {
                (None, None) => prop_assert!(rounds.iter().all(|(a, b)| a.is_empty() || b.is_empty())),
                (Some(one), Some(other)) => {
                    prop_assert!((one.ratio * other.ratio - 1.0).abs() < 1e-9);
                    prop_assert!(one.p_value > 0.0 && one.p_value <= 1.0 && one.low <= one.high);
                }
                _ => prop_assert!(false),
            }
        }
    }
}
