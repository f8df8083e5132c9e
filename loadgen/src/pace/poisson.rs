//! Arrivals of many users who do not know of each other: gaps are exponential, so that bunches and holes come as they do in life.
//!
//! The same seed gives the same arrivals. Gap k is drawn from the seed and k; due times are its running sum, of which the last
//! one is kept so that asking in turn costs one draw.

use std::time::Duration;

use reports::stats::random::Random;

use super::{Pacer, seconds};

/// The pacer.
#[derive(Debug, Clone)]
pub struct Poisson {
    rate: f64,
    seed: u64,
    random: Random,
    /// Number and due time, in seconds, of the last arrival drawn.
    at: Option<(u64, f64)>,
}

impl Poisson {
    /// `rate` arrivals a second on average; it must be above 0.
    #[must_use]
    pub fn new(rate: f64, seed: u64) -> Self {
        Self {
            rate,
            seed,
            random: Random::new(seed),
            at: None,
        }
    }

    fn gap(&mut self) -> f64 {
        exponential(&mut self.random) / self.rate
    }
}

/// A draw from the exponential distribution of mean 1.
pub fn exponential(random: &mut Random) -> f64 {
    -(1.0 - unit(random)).ln()
}

/// A number of 0 ≤ x < 1, of 53 random bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
pub fn unit(random: &mut Random) -> f64 {
    (random.bits() >> 11) as f64 / (1u64 << 53) as f64
}

impl Pacer for Poisson {
    fn due(&mut self, sent: u64) -> Option<Duration> {
        if self.at.is_some_and(|(number, _)| sent < number) {
            *self = Self::new(self.rate, self.seed);
        }
        let (mut number, mut due) = match self.at {
            Some(at) => at,
            None => (0, self.gap()),
        };
        while number < sent {
            due += self.gap();
            number += 1;
        }
        self.at = Some((number, due));
        Some(seconds(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gaps of `n` arrivals, in seconds.
    fn gaps(rate: f64, n: u64) -> Vec<f64> {
        let mut pacer = Poisson::new(rate, 7);
        let dues: Vec<f64> = (0..n)
            .map(|k| pacer.due(k).unwrap().as_secs_f64())
            .collect();
        dues.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn gaps_are_exponential() {
        let mut gaps = gaps(50.0, 20_001);
        let n = 20_000.0;
        let mean = gaps.iter().sum::<f64>() / n;
        assert!((mean * 50.0 - 1.0).abs() < 0.03, "{mean}");
        // Kolmogorov and Smirnov: the largest distance to the true distribution, at a level of 0.1 %.
        gaps.sort_unstable_by(f64::total_cmp);
        let mut below = 0.0;
        let mut worst: f64 = 0.0;
        for gap in gaps {
            let truth = 1.0 - (-gap * 50.0).exp();
            worst = worst.max((truth - below / n).abs());
            below += 1.0;
        }
        assert!(worst < 1.95 / f64::sqrt(n), "{worst}");
    }

    #[test]
    fn counts_vary_as_much_as_they_should() {
        // In a Poisson process the variance of counts is their mean; at a constant rate it would be 0.
        let mut pacer = Poisson::new(100.0, 3);
        let mut counts = [0.0f64; 200];
        for k in 0.. {
            let due = pacer.due(k).unwrap().as_secs();
            match counts.get_mut(usize::try_from(due).unwrap()) {
                Some(count) => *count += 1.0,
                None => break,
            }
        }
        let mean = counts.iter().sum::<f64>() / 200.0;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 199.0;
        assert!(
            (0.7..1.4).contains(&(variance / mean)),
            "{variance} of {mean}"
        );
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let due = |seed| Poisson::new(1.0, seed).due(10);
        assert_eq!(due(1), due(1));
        assert_ne!(due(1), due(2));
    }
}
