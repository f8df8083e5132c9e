//! How long a reply takes before its first byte.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, Normal, Pareto};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seed;

/// No latency is longer than this, whatever the distribution draws: 5 minutes.
pub const CEILING: Duration = Duration::from_mins(5);

/// A distribution of latencies, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    /// Always the same.
    FixedMs(f64),
    /// Evenly from `min_ms` to `max_ms`.
    Uniform {
        /// Least.
        min_ms: f64,
        /// Most.
        max_ms: f64,
    },
    /// Normal; what is drawn below zero is zero.
    Normal {
        /// Mean.
        mean_ms: f64,
        /// Standard deviation.
        sd_ms: f64,
    },
    /// Log-normal, by its median and the standard deviation of the logarithm.
    LogNormal {
        /// Median.
        median_ms: f64,
        /// Standard deviation of ln(latency), 0 to 10.
        sigma: f64,
    },
    /// Pareto: never below `scale_ms`, heavier tail with smaller `shape`.
    Pareto {
        /// Least.
        scale_ms: f64,
        /// Shape, above 0.
        shape: f64,
    },
    /// A recorded histogram: a bucket is chosen by its count, within it evenly.
    Histogram(Vec<Bucket>),
}

/// One bucket of a recorded histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Lower end, milliseconds.
    pub from_ms: f64,
    /// Upper end, milliseconds.
    pub to_ms: f64,
    /// How many were seen.
    pub count: u32,
}

/// What is wrong with a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LatencyError {
    /// A negative, infinite or too long time.
    #[error("a latency is between 0 and 300000 ms")]
    Time,
    /// Ends the wrong way round.
    #[error("the upper end of a latency is not below the lower one")]
    Order,
    /// A shape that no distribution has.
    #[error("sigma is between 0 and 10, shape is above 0")]
    Shape,
    /// Nothing to replay.
    #[error("a histogram has a bucket with a count above 0")]
    Empty,
}

impl Latency {
    /// One latency.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Duration {
        let between =
            |rng: &mut ChaCha8Rng, from: f64, to: f64| from + (to - from) * seed::unit(rng);
        // A distribution that cannot be made was refused by `check`; drawn all the same, it is zero.
        let ms = match self {
            Self::FixedMs(ms) => *ms,
            Self::Uniform { min_ms, max_ms } => between(rng, *min_ms, *max_ms),
            Self::Normal { mean_ms, sd_ms } => {
                Normal::new(*mean_ms, *sd_ms).map_or(0.0, |normal| normal.sample(rng))
            }
            Self::LogNormal { median_ms, sigma } => {
                LogNormal::new(median_ms.ln(), *sigma).map_or(0.0, |normal| normal.sample(rng))
            }
            Self::Pareto { scale_ms, shape } => {
                Pareto::new(*scale_ms, *shape).map_or(0.0, |pareto| pareto.sample(rng))
            }
            Self::Histogram(buckets) => {
                let total = buckets.iter().map(|bucket| u64::from(bucket.count)).sum();
                let mut left = seed::below(rng, total);
                let bucket = buckets.iter().find(|bucket| {
                    let here = left < u64::from(bucket.count);
                    left = left.saturating_sub(u64::from(bucket.count));
                    here
                });
                bucket.map_or(0.0, |bucket| between(rng, bucket.from_ms, bucket.to_ms))
            }
        };
        Duration::try_from_secs_f64(ms.max(0.0) / 1000.0)
            .map_or(CEILING, |drawn| drawn.min(CEILING))
    }

    /// Whether the values make sense.
    pub fn check(&self) -> Result<(), LatencyError> {
        let time = |ms: f64| {
            if (0.0..=300_000.0).contains(&ms) {
                Ok(())
            } else {
                Err(LatencyError::Time)
            }
        };
        let ends = |from: f64, to: f64| {
            time(from).and_then(|()| time(to))?;
            if from <= to {
                Ok(())
            } else {
                Err(LatencyError::Order)
            }
        };
        match self {
            Self::FixedMs(ms) => time(*ms),
            Self::Uniform { min_ms, max_ms } => ends(*min_ms, *max_ms),
            Self::Normal { mean_ms, sd_ms } => time(*mean_ms).and_then(|()| time(*sd_ms)),
            Self::LogNormal { median_ms, sigma } => {
                time(*median_ms)?;
                if (0.0..=10.0).contains(sigma) {
                    Ok(())
                } else {
                    Err(LatencyError::Shape)
                }
            }
            Self::Pareto { scale_ms, shape } => {
                time(*scale_ms)?;
                if *scale_ms > 0.0 && *shape > 0.0 && shape.is_finite() {
                    Ok(())
                } else {
                    Err(LatencyError::Shape)
                }
            }
            Self::Histogram(buckets) => {
                buckets
                    .iter()
                    .try_for_each(|bucket| ends(bucket.from_ms, bucket.to_ms))?;
                if buckets.iter().any(|bucket| bucket.count > 0) {
                    Ok(())
                } else {
                    Err(LatencyError::Empty)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(latency: &Latency) -> Vec<f64> {
        let mut drawn = (0..4001)
            .map(|n| {
                latency
                    .draw(&mut seed::generator(7, &["latency"], n))
                    .as_secs_f64()
                    * 1000.0
            })
            .collect::<Vec<_>>();
        drawn.sort_by(f64::total_cmp);
        drawn
    }

    #[test]
    fn each_distribution_has_its_quantiles() {
        let bucket = |from_ms, to_ms, count| Bucket {
            from_ms,
            to_ms,
            count,
        };
        // Quantiles 0.5 and 0.9 by the textbook formula.
        let table = [
            (Latency::FixedMs(20.0), 20.0, 20.0),
            (
                Latency::Uniform {
                    min_ms: 10.0,
                    max_ms: 30.0,
                },
                20.0,
                28.0,
            ),
            (
                Latency::Normal {
                    mean_ms: 100.0,
                    sd_ms: 10.0,
                },
                100.0,
                112.8,
            ),
            (
                Latency::LogNormal {
                    median_ms: 50.0,
                    sigma: 0.5,
                },
                50.0,
                94.9,
            ),
            (
                Latency::Pareto {
                    scale_ms: 10.0,
                    shape: 2.0,
                },
                14.14,
                31.62,
            ),
            (
                Latency::Histogram(vec![bucket(0.0, 10.0, 75), bucket(50.0, 60.0, 25)]),
                6.67,
                56.0,
            ),
        ];
        for (latency, median, p90) in table {
            latency.check().unwrap();
            let drawn = sorted(&latency);
            for (quantile, expected) in [(2000, median), (3600, p90)] {
                let seen: f64 = drawn[quantile];
                assert!(
                    (seen - expected).abs() <= expected * 0.06,
                    "{latency:?}: {seen}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn what_is_drawn_is_never_negative_nor_beyond_the_ceiling() {
        let wild = [
            Latency::Normal {
                mean_ms: 0.0,
                sd_ms: 300_000.0,
            },
            Latency::Pareto {
                scale_ms: 300_000.0,
                shape: 0.01,
            },
            Latency::LogNormal {
                median_ms: 0.0,
                sigma: 10.0,
            },
            Latency::LogNormal {
                median_ms: 300_000.0,
                sigma: 10.0,
            },
        ];
        for latency in wild {
            latency.check().unwrap();
            assert!(
                sorted(&latency)
                    .iter()
                    .all(|ms| (0.0..=300_000.0).contains(ms))
            );
        }
    }

    #[test]
    fn senseless_values_are_refused() {
        assert_eq!(Latency::FixedMs(-1.0).check(), Err(LatencyError::Time));
        assert_eq!(
            Latency::FixedMs(f64::INFINITY).check(),
            Err(LatencyError::Time)
        );
        assert_eq!(
            Latency::Uniform {
                min_ms: 2.0,
                max_ms: 1.0
            }
            .check(),
            Err(LatencyError::Order)
        );
        assert_eq!(
            Latency::Pareto {
                scale_ms: 1.0,
                shape: 0.0
            }
            .check(),
            Err(LatencyError::Shape)
        );
        assert_eq!(Latency::Histogram(vec![]).check(), Err(LatencyError::Empty));
    }
}
