//! Quantiles as order statistics: the value at rank ⌈q·n⌉ of the sorted samples, never between two of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{count, float};

/// A quantile needs this many samples beyond it before it is worth its name: 20 for P50, 200 for P95, 1,000 for P99.
const BEYOND: usize = 10;

/// How far an interval may leave out the truth, on each side: together 5 %.
const TAIL: f64 = 0.025;

/// A quantile in thousandths: whole numbers compare exactly.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Quantile(u16);

impl Quantile {
    /// The median.
    pub const P50: Self = Self(500);
    /// One in twenty is slower.
    pub const P95: Self = Self(950);
    /// One in a hundred is slower.
    pub const P99: Self = Self(990);
    /// One in a thousand is slower.
    pub const P999: Self = Self(999);
    /// Those that reports show.
    pub const SHOWN: [Self; 3] = [Self::P50, Self::P95, Self::P99];

    fn share(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// Index of the order statistic among `n` sorted samples.
    fn index(self, n: usize) -> usize {
        (n * usize::from(self.0)).div_ceil(1000).max(1) - 1
    }

    /// Whether `n` samples say anything about it.
    #[must_use]
    pub fn supported(self, n: usize) -> bool {
        n * usize::from(1000 - self.0) >= BEYOND * 1000
    }
}

impl std::fmt::Display for Quantile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "P{}", self.0 / 10),
            tenth => write!(f, "P{}.{tenth}", self.0 / 10),
        }
    }
}

/// A quantile of some samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Which one.
    pub quantile: Quantile,
    /// Its value.
    pub value: u64,
    /// Interval that holds the true value 95 times in 100; `None` where there are too few samples for an end of it.
    pub low: Option<u64>,
    /// See `low`.
    pub high: Option<u64>,
    /// Whether there are enough samples for the quantile to mean something.
    pub supported: bool,
}

/// The value at a quantile of sorted samples; `None` of none.
#[must_use]
pub fn at(sorted: &[u64], quantile: Quantile) -> Option<u64> {
    sorted.get(quantile.index(sorted.len())).copied()
}

/// A quantile of sorted samples with its interval.
///
/// How many of `n` samples lie below the true quantile is binomial, whatever the distribution: so two ranks around the
/// estimate hold it with known confidence.
#[must_use]
pub fn estimate(sorted: &[u64], quantile: Quantile) -> Option<Estimate> {
    let value = at(sorted, quantile)?;
    let (low, high) = interval_ranks(sorted.len(), quantile.share());
    Some(Estimate {
        quantile,
        value,
        low: low.and_then(|rank| sorted.get(rank).copied()),
        high: high.and_then(|rank| sorted.get(rank).copied()),
        supported: quantile.supported(sorted.len()),
    })
}

/// Indices of the two order statistics around a quantile: each side misses it with a probability of at most [`TAIL`].
fn interval_ranks(n: usize, share: f64) -> (Option<usize>, Option<usize>) {
    let (mut low, mut high) = (None, None);
    let step = share.ln() - (1.0 - share).ln();
    let mut log_mass = count(n) * (1.0 - share).ln();
    let mut below = 0.0;
    for k in 0..n {
        // `below`: the probability that fewer than k samples lie below the quantile. The sample with index k - 1 lies
        // above it exactly then.
        if k > 0 && below <= TAIL {
            low = Some(k - 1);
        }
        below += log_mass.exp();
        // Now that at most k do: the sample with index k lies below the quantile otherwise.
        if high.is_none() && 1.0 - below <= TAIL {
            high = Some(k);
        }
        log_mass += step + (count(n - k) / count(k + 1)).ln();
    }
    (low, high)
}

/// The mean, rounded; zero of none.
#[must_use]
pub fn mean(samples: &[u64]) -> f64 {
    match samples {
        [] => 0.0,
        _ => samples.iter().map(|&s| float(s)).sum::<f64>() / count(samples.len()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::random::Random;
    use super::*;

    #[test]
    fn ranks_are_nearest_ranks() {
        let samples: Vec<u64> = (1..=100).collect();
        let value = |q| at(&samples, q);
        assert_eq!(value(Quantile::P50), Some(50));
        assert_eq!(value(Quantile::P95), Some(95));
        assert_eq!(value(Quantile::P99), Some(99));
        assert_eq!(at(&[7], Quantile::P99), Some(7));
        assert_eq!(at(&[], Quantile::P50), None);
    }

    #[test]
    fn support_is_as_the_rules_say() {
        for (quantile, n) in [
            (Quantile::P50, 20),
            (Quantile::P95, 200),
            (Quantile::P99, 1000),
        ] {
            assert!(quantile.supported(n) && !quantile.supported(n - 1), "{n}");
        }
    }

    #[test]
    fn the_interval_of_a_median_is_the_tabled_one() {
        // Tables of the sign test: for n = 100, ranks 40 and 61 hold the median with at least 95 %.
        assert_eq!(interval_ranks(100, 0.5), (Some(39), Some(60)));
        // Six samples are the fewest whose extremes do.
        assert_eq!(interval_ranks(6, 0.5), (Some(0), Some(5)));
        assert_eq!(interval_ranks(5, 0.5), (None, None));
        // No sample lies beyond a P99 often enough in a hundred.
        assert_eq!(interval_ranks(100, 0.99).1, None);
    }

    #[test]
    fn an_interval_holds_the_truth_as_often_as_it_says() {
        let mut random = Random::new(1);
        let mut held = 0;
        for _ in 0..2000 {
            let mut samples: Vec<u64> = (0..80).map(|_| random.bits() >> 1).collect();
            samples.sort_unstable();
            let found = estimate(&samples, Quantile::P50).unwrap();
            let truth = u64::MAX >> 2;
            held += u32::from(found.low.unwrap() <= truth && truth <= found.high.unwrap());
        }
        assert!((1880..=1970).contains(&held), "{held} of 2000");
    }

    proptest! {
        #[test]
        fn an_estimate_is_a_sample_within_its_interval(mut samples in prop::collection::vec(any::<u64>(), 1..400)) {
            samples.sort_unstable();
            for quantile in Quantile::SHOWN {
                let found = estimate(&samples, quantile).unwrap();
                prop_assert!(samples.contains(&found.value));
                prop_assert!(found.low.is_none_or(|low| low <= found.value));
                prop_assert!(found.high.is_none_or(|high| found.value <= high));
                let below = samples.iter().filter(|&&s| s < found.value).count();
                let up_to = samples.iter().filter(|&&s| s <= found.value).count();
                prop_assert!(count(below) < count(samples.len()) * quantile.share() + 1e-6);
                prop_assert!(count(up_to) >= count(samples.len()) * quantile.share() - 1e-6);
            }
        }
    }
}
