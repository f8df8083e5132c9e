//! Distributions of delays, with quantiles that are known.
//!
//! ```text
//!   none   fixed:20ms   uniform:10ms:50ms   exponential:20ms (mean)   lognormal:20ms:0.5 (median, sigma)
//!   steps:20ms@0.9,80ms@0.99,200ms@1   (nine in ten take 20 ms, up to 99 in a hundred 80 ms, the rest 200 ms)
//! ```

use std::str::FromStr;
use std::time::Duration;

use reports::stats::random::Random;

use crate::pace::parse::{PatternError, time};
use crate::pace::poisson::{exponential, unit};

/// Longest delay that is drawn.
const LONGEST: Duration = Duration::from_secs(3600);

/// A distribution.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Delay {
    /// At once.
    #[default]
    None,
    /// Always the same.
    Fixed(Duration),
    /// Anything between two, evenly.
    Uniform(Duration, Duration),
    /// Exponential, by its mean.
    Exponential(Duration),
    /// Log-normal, by its median and sigma.
    LogNormal(Duration, f64),
    /// By shares: each delay up to its cumulative share, the last of which is 1.
    Steps(Vec<(Duration, f64)>),
}

impl Delay {
    /// Draws one.
    pub fn draw(&self, random: &mut Random) -> Duration {
        let drawn = match self {
            Self::None => return Duration::ZERO,
            Self::Fixed(delay) => return *delay,
            Self::Uniform(low, high) => {
                low.as_secs_f64() + unit(random) * (high.as_secs_f64() - low.as_secs_f64())
            }
            Self::Exponential(mean) => mean.as_secs_f64() * exponential(random),
            Self::LogNormal(median, sigma) => median.as_secs_f64() * (sigma * normal(random)).exp(),
            Self::Steps(steps) => {
                let at = unit(random);
                let step = steps.iter().find(|(_, share)| at < *share);
                return step
                    .or(steps.last())
                    .map_or(Duration::ZERO, |(delay, _)| *delay);
            }
        };
        Duration::try_from_secs_f64(drawn).map_or(LONGEST, |drawn| drawn.min(LONGEST))
    }
}

/// A draw from the standard normal distribution (Box and Muller).
fn normal(random: &mut Random) -> f64 {
    let radius = (2.0 * exponential(random)).sqrt();
    radius * (std::f64::consts::TAU * unit(random)).cos()
}

/// Why a text names no distribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DelayError {
    /// No such distribution.
    #[error(
        "`{0}` is none of none, fixed:TIME, uniform:LOW:HIGH, exponential:MEAN, lognormal:MEDIAN:SIGMA, steps:TIME@SHARE,…"
    )]
    Unknown(String),
    /// A part that is no time.
    #[error(transparent)]
    Time(#[from] PatternError),
    /// A part that is out of range.
    #[error("`{0}`: sigma goes from 0 to 5; shares rise and end with 1; low is below high")]
    Range(String),
}

impl FromStr for Delay {
    type Err = DelayError;

    fn from_str(text: &str) -> Result<Self, DelayError> {
        let parts: Vec<&str> = text.split(':').collect();
        let range = || DelayError::Range(text.to_owned());
        Ok(match parts[..] {
            ["none"] => Self::None,
            ["fixed", delay] => Self::Fixed(time(delay)?),
            ["uniform", low, high] => {
                let (low, high) = (time(low)?, time(high)?);
                (low < high)
                    .then_some(Self::Uniform(low, high))
                    .ok_or_else(range)?
            }
            ["exponential", mean] => Self::Exponential(time(mean)?),
            ["lognormal", median, sigma] => {
                let sigma = sigma
                    .parse()
                    .ok()
                    .filter(|sigma| (0.0..=5.0).contains(sigma));
                Self::LogNormal(time(median)?, sigma.ok_or_else(range)?)
            }
            ["steps", steps] => {
                let mut read: Vec<(Duration, f64)> = Vec::new();
                for step in steps.split(',') {
                    let (delay, share) = step.split_once('@').ok_or_else(range)?;
                    let share: f64 = share.parse().map_err(|_| range())?;
                    if !(read.last().map_or(0.0, |last| last.1)..=1.0).contains(&share) {
                        return Err(range());
                    }
                    read.push((time(delay)?, share));
                }
                let whole = read.last().is_some_and(|last| last.1 >= 1.0);
                whole.then_some(Self::Steps(read)).ok_or_else(range)?
            }
            _ => return Err(DelayError::Unknown(text.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, n: usize) -> Vec<f64> {
        let delay: Delay = text.parse().unwrap();
        let mut random = Random::new(5);
        let mut all: Vec<f64> = (0..n)
            .map(|_| delay.draw(&mut random).as_secs_f64())
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        all
    }

    #[test]
    fn distributions_have_their_quantiles() {
        let near = |value: f64, want: f64| {
            assert!((value / want - 1.0).abs() < 0.05, "{value} for {want}")
        };
        let log_normal = drawn("lognormal:20ms:0.5", 20_000);
        near(log_normal[10_000], 0.020);
        // One sigma up is the 84.13th percentile.
        near(log_normal[16_827], 0.020 * 0.5f64.exp());
        let exponential = drawn("exponential:10ms", 20_000);
        near(exponential[10_000], 0.010 * 2f64.ln());
        let uniform = drawn("uniform:10ms:30ms", 20_000);
        near(uniform[5_000], 0.015);
        let steps = drawn("steps:20ms@0.9,80ms@0.99,200ms@1", 20_000);
        assert_eq!(
            (steps[17_000], steps[19_000], steps[19_950]),
            (0.020, 0.080, 0.200)
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "",
            "gauss:1s",
            "fixed:1",
            "uniform:2s:1s",
            "lognormal:1s:9",
            "steps:1s@0.5",
            "steps:1s@0.9,2s@0.5",
            "steps:1s",
        ] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
    }
}
