//! One comparison: two lists of numbers, one number per round. Pure.
//!
//! Numbers are made so that more is worse: logarithms of times (their difference is a ratio), or shares of failures.
//!
//! - Rounds in pairs: were there no difference, each round's difference could as well have the other sign.
//! - Rounds of two runs: were there no difference, it would not matter which run a round is of.

use serde::Serialize;

use crate::stats::random::Random;
use crate::stats::{FEW_ROUNDS, count};

/// The fewest resamples of a gate.
pub const RESAMPLES: usize = 9_999;

/// What a gate asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rules {
    /// Chance of a false alarm, over all series together.
    pub alpha: f64,
    /// How much worse a ratio must be: 0.05 is 5 %.
    pub floor: f64,
    /// How many more must fail: 0.01 is one in a hundred.
    pub failure_floor: f64,
    /// Resamples of test and interval.
    pub resamples: usize,
    /// Seed of both.
    pub seed: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            floor: 0.05,
            failure_floor: 0.01,
            resamples: RESAMPLES,
            seed: crate::stats::ratio::SEED,
        }
    }
}

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Measure {
    /// Logarithms: a difference of them is a ratio.
    Logarithm,
    /// Shares.
    Share,
}

/// One number per round.
#[derive(Debug, Clone, PartialEq)]
pub struct Sides {
    /// The baseline's.
    pub base: Vec<f64>,
    /// The new one's; of the same rounds in the same order, where they are in pairs.
    pub new: Vec<f64>,
    /// Whether rounds are in pairs.
    pub paired: bool,
    /// What they are.
    pub measure: Measure,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Judged {
    /// How much worse the new one is: a ratio (1 is the same), or a difference of shares (0 is the same).
    pub effect: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How likely an effect this bad would be without any difference.
    pub p_value: f64,
    /// Rounds of the baseline.
    pub base_rounds: usize,
    /// Rounds of the new run.
    pub new_rounds: usize,
    /// Beyond the floor.
    pub matters: bool,
}

/// Why nothing can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum TooFew {
    /// Fewer rounds than a test needs.
    #[error(
        "{base} and {new} rounds with successes; at least {FEW_ROUNDS} are needed on each side"
    )]
    Rounds {
        /// Of the baseline.
        base: usize,
        /// Of the new run.
        new: usize,
    },
    /// Even the clearest difference could not be below the level.
    #[error("so few rounds for so many series that no difference could be called real")]
    Power,
    /// The new run has no such series.
    #[error("the new run has no such series")]
    Missing,
}

/// Judges one comparison of `family` in all; `index` is its own number among them.
///
/// # Errors
/// When there are too few rounds.
pub fn judge(sides: &Sides, rules: &Rules, family: usize, index: usize) -> Result<Judged, TooFew> {
    let (base, new) = (&sides.base, &sides.new);
    if new.is_empty() && !base.is_empty() {
        return Err(TooFew::Missing);
    }
    if base.len().min(new.len()) < FEW_ROUNDS {
        return Err(TooFew::Rounds {
            base: base.len(),
            new: new.len(),
        });
    }
    let least = 1.0 / (count(rules.resamples) + 1.0);
    let least = least.max(1.0 / arrangements(sides));
    if least * count(family.max(1)) >= rules.alpha {
        return Err(TooFew::Power);
    }
    let seed = rules
        .seed
        .wrapping_add(u64::try_from(index).unwrap_or_default());
    let mut random = Random::new(seed);
    let seen = mean(new) - mean(base);
    let p_value = permuted(sides, seen, rules.resamples, &mut random);
    let (low, high) = interval(sides, rules.resamples, &mut random);
    let shown = |difference: f64| match sides.measure {
        Measure::Logarithm => difference.exp(),
        Measure::Share => difference,
    };
    let effect = shown(seen);
    Ok(Judged {
        effect,
        low: shown(low),
        high: shown(high),
        p_value,
        base_rounds: base.len(),
        new_rounds: new.len(),
        matters: match sides.measure {
            Measure::Logarithm => effect >= 1.0 + rules.floor,
            Measure::Share => effect >= rules.failure_floor,
        },
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values.len().max(1))
}

/// How many ways there are to name the sides: no p can be less than one in so many.
fn arrangements(sides: &Sides) -> f64 {
    let (n, m) = (sides.base.len(), sides.new.len());
    if sides.paired {
        2f64.powi(i32::try_from(n).unwrap_or(i32::MAX))
    } else {
        (0..n.min(m)).fold(1.0, |all, k| all * count(n + m - k) / count(k + 1))
    }
}

/// New against base, round by round.
fn differences(sides: &Sides) -> Vec<f64> {
    let rounds = sides.new.iter().zip(&sides.base);
    rounds.map(|(new, base)| new - base).collect()
}

fn permuted(sides: &Sides, seen: f64, resamples: usize, random: &mut Random) -> f64 {
    // A hair less than seen counts as seen: the same numbers summed up another way must not.
    let bound = seen - 1e-12 * seen.abs().max(1.0);
    let mut as_bad = 0;
    let differences = differences(sides);
    let mut pool: Vec<f64> = sides.base.iter().chain(&sides.new).copied().collect();
    let new = sides.new.len();
    let total = mean(&pool) * count(pool.len());
    for _ in 0..resamples {
        let renamed = if sides.paired {
            let signed = differences
                .iter()
                .map(|one| if random.coin() { *one } else { -one });
            signed.sum::<f64>() / count(differences.len())
        } else {
            // The first `new` places of a shuffle are a random choice.
            for place in 0..new {
                let other = place + random.below(pool.len() - place);
                pool.swap(place, other);
            }
            let chosen: f64 = pool[..new].iter().sum();
            chosen / count(new) - (total - chosen) / count(sides.base.len())
        };
        as_bad += usize::from(renamed >= bound);
    }
    (count(as_bad) + 1.0) / (count(resamples) + 1.0)
}

/// Interval of 95 % by bootstrap-t: rounds are drawn again with replacement, and each drawn difference is measured in its own
/// standard errors. With few rounds and now and then a stall the plain percentiles would be too narrow.
fn interval(sides: &Sides, resamples: usize, random: &mut Random) -> (f64, f64) {
    let differences = differences(sides);
    let groups: Vec<&[f64]> = match sides.paired {
        true => Vec::from([differences.as_slice()]),
        false => Vec::from([sides.new.as_slice(), sides.base.as_slice()]),
    };
    let (seen, error) = difference(&groups);
    let mut drawn: Vec<f64> = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        let again: Vec<Vec<f64>> = groups
            .iter()
            .map(|group| {
                (0..group.len())
                    .map(|_| group[random.below(group.len())])
                    .collect()
            })
            .collect();
        let again: Vec<&[f64]> = again.iter().map(Vec::as_slice).collect();
        let (found, its_error) = difference(&again);
        // All draws the same: it says nothing about the spread.
        if its_error > 0.0 {
            drawn.push((found - seen) / its_error);
        }
    }
    drawn.sort_unstable_by(f64::total_cmp);
    let cut = |thousandths: usize| {
        drawn
            .get(drawn.len() * thousandths / 1_000)
            .copied()
            .unwrap_or_default()
    };
    (seen - cut(975) * error, seen - cut(25) * error)
}

/// The difference of the means of the first and the second group (of one group: its mean), and its standard error.
fn difference(groups: &[&[f64]]) -> (f64, f64) {
    let mut value = 0.0;
    let mut variance = 0.0;
    for (group, sign) in groups.iter().zip([1.0, -1.0]) {
        let centre = mean(group);
        let squares: f64 = group.iter().map(|one| (one - centre).powi(2)).sum();
        let n = count(group.len());
        value += sign * centre;
        variance += squares / (n - 1.0).max(1.0) / n.max(1.0);
    }
    (value, variance.sqrt())
}

/// Which of several p-values are real when the chance of any false one is to be at most `alpha` (Holm 1979): the least has
/// to be below `alpha / m`, the next one below `alpha / (m - 1)`, …; the first that is not ends it.
#[must_use]
pub fn holm(p_values: &[f64], alpha: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut real = vec![false; p_values.len()];
    for (rank, index) in order.into_iter().enumerate() {
        if p_values[index] * count(p_values.len() - rank) >= alpha {
            break;
        }
        real[index] = true;
    }
    real
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
