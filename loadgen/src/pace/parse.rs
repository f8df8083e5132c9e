//! Patterns of arrivals as people write them.
//!
//! ```text
//!   constant:50          50 a second              poisson:50            50 a second on average
//!   ramp:10:200:60s      from 10 to 200 in 60 s   sine:50:30:10m        50 ± 30, once in ten minutes
//!   burst:100            100 at once              burst:100:30s         … again each 30 s
//!   staggered:200ms      one each 200 ms          closed:8              8 workers, one after the other (closed loop)
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Pacer;
use super::burst::Burst;
use super::constant::Constant;
use super::poisson::Poisson;
use super::ramp::Ramp;
use super::sine::Sine;
use super::staggered::Staggered;
use super::trace::Trace;

/// Most arrivals a second that can be asked for.
const MAX_RATE: f64 = 1e6;
/// Most workers of a closed loop, and most arrivals of a burst.
const MAX_AT_ONCE: u64 = 100_000;
/// Seed of random arrivals when none is given.
pub const SEED: u64 = 0x5eed_2026;

/// Arrivals on a schedule.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// See [`Constant`].
    Constant {
        /// Arrivals a second.
        rate: f64,
    },
    /// See [`Poisson`].
    Poisson {
        /// Arrivals a second on average.
        rate: f64,
        /// Seed.
        seed: u64,
    },
    /// See [`Ramp`].
    Ramp {
        /// First rate.
        from: f64,
        /// Last rate.
        to: f64,
        /// How long it takes.
        over: Duration,
    },
    /// See [`Sine`].
    Sine {
        /// Mean rate.
        mean: f64,
        /// Swing.
        amplitude: f64,
        /// Period.
        period: Duration,
    },
    /// See [`Burst`].
    Burst {
        /// How many at once.
        size: u64,
        /// How often; zero means once.
        every: Duration,
    },
    /// See [`Staggered`].
    Staggered {
        /// Gap.
        gap: Duration,
    },
    /// See [`Trace`].
    Trace {
        /// Due times.
        dues: Vec<Duration>,
        /// How much faster than recorded.
        speed: f64,
    },
}

impl Pattern {
    /// The pacer.
    #[must_use]
    pub fn pacer(&self) -> Box<dyn Pacer> {
        match *self {
            Self::Constant { rate } => Box::new(Constant::new(rate)),
            Self::Poisson { rate, seed } => Box::new(Poisson::new(rate, seed)),
            Self::Ramp { from, to, over } => Box::new(Ramp::new(from, to, over)),
            Self::Sine {
                mean,
                amplitude,
                period,
            } => Box::new(Sine::new(mean, amplitude, period)),
            Self::Burst { size, every } => Box::new(Burst::new(size, every)),
            Self::Staggered { gap } => Box::new(Staggered::new(gap)),
            Self::Trace { ref dues, speed } => Box::new(Trace::new(dues.clone(), speed)),
        }
    }

    /// Whether the pattern ends by itself.
    #[must_use]
    pub fn ends(&self) -> bool {
        match self {
            Self::Ramp { .. } | Self::Trace { .. } => true,
            Self::Burst { every, .. } => every.is_zero(),
            _ => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant { rate } => write!(f, "constant:{rate}"),
            Self::Poisson { rate, .. } => write!(f, "poisson:{rate}"),
            Self::Ramp { from, to, over } => write!(f, "ramp:{from}:{to}:{over:?}"),
            Self::Sine {
                mean,
                amplitude,
                period,
            } => write!(f, "sine:{mean}:{amplitude}:{period:?}"),
            Self::Burst { size, every } if every.is_zero() => write!(f, "burst:{size}"),
            Self::Burst { size, every } => write!(f, "burst:{size}:{every:?}"),
            Self::Staggered { gap } => write!(f, "staggered:{gap:?}"),
            Self::Trace { dues, speed } => write!(f, "trace of {} at {speed}×", dues.len()),
        }
    }
}

/// Who sends: a schedule, or workers that wait for answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrivals {
    /// On a schedule, whatever the server does.
    Open(Pattern),
    /// This many workers, each of which sends when it has its answer.
    Closed(usize),
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(pattern) => pattern.fmt(f),
            Self::Closed(workers) => write!(f, "closed:{workers}"),
        }
    }
}

/// Why a text names no arrivals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No such pattern, or with other parts.
    #[error(
        "`{0}` is none of constant:RATE, poisson:RATE, ramp:FROM:TO:TIME, sine:MEAN:SWING:PERIOD, burst:SIZE[:EVERY], \
         staggered:GAP, closed:WORKERS"
    )]
    Unknown(String),
    /// Not a rate.
    #[error("`{0}` is no rate: arrivals a second, above 0, at most 1000000")]
    Rate(String),
    /// Not a number of things at once.
    #[error("`{0}` is no number from 1 to {MAX_AT_ONCE}")]
    Count(String),
    /// Not a time.
    #[error("`{0}` is no time above zero: a number and one of ms, s, m, h")]
    Time(String),
    /// A rate that would be below zero.
    #[error("a swing of {amplitude} about {mean} a second goes below zero")]
    Swing {
        /// Mean rate.
        mean: String,
        /// Swing.
        amplitude: String,
    },
}

impl FromStr for Arrivals {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let parts: Vec<&str> = text.split(':').collect();
        let pattern = match parts[..] {
            ["closed", workers] => {
                let workers = usize::try_from(count(workers)?).unwrap_or(usize::MAX);
                return Ok(Self::Closed(workers));
            }
            ["constant", rate] => Pattern::Constant { rate: above(rate)? },
            ["poisson", rate] => Pattern::Poisson {
                rate: above(rate)?,
                seed: SEED,
            },
            ["ramp", from, to, over] => {
                let ramp = (any_rate(from)?, any_rate(to)?);
                if ramp.0 + ramp.1 <= 0.0 {
                    return Err(PatternError::Rate(to.to_owned()));
                }
                Pattern::Ramp {
                    from: ramp.0,
                    to: ramp.1,
                    over: time(over)?,
                }
            }
            ["sine", mean, amplitude, period] => {
                let (rate, swing) = (above(mean)?, any_rate(amplitude)?);
                if swing > rate {
                    return Err(PatternError::Swing {
                        mean: mean.to_owned(),
                        amplitude: amplitude.to_owned(),
                    });
                }
                Pattern::Sine {
                    mean: rate,
                    amplitude: swing,
                    period: time(period)?,
                }
            }
            ["burst", size] => Pattern::Burst {
                size: count(size)?,
                every: Duration::ZERO,
            },
            ["burst", size, every] => Pattern::Burst {
                size: count(size)?,
                every: time(every)?,
            },
            ["staggered", gap] => Pattern::Staggered { gap: time(gap)? },
            _ => return Err(PatternError::Unknown(text.to_owned())),
        };
        Ok(Self::Open(pattern))
    }
}

fn any_rate(text: &str) -> Result<f64, PatternError> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate| (0.0..=MAX_RATE).contains(rate));
    rate.ok_or_else(|| PatternError::Rate(text.to_owned()))
}

fn above(text: &str) -> Result<f64, PatternError> {
    // Below one in a year a rate is a mistake, and its due times no longer fit.
    any_rate(text).and_then(|rate| {
        let sensible = rate >= 1e-7;
        sensible
            .then_some(rate)
            .ok_or_else(|| PatternError::Rate(text.to_owned()))
    })
}

fn count(text: &str) -> Result<u64, PatternError> {
    let count = text.parse().ok().filter(|n| (1..=MAX_AT_ONCE).contains(n));
    count.ok_or_else(|| PatternError::Count(text.to_owned()))
}

/// A time above zero: a number and its unit.
///
/// # Errors
/// When it is none.
pub fn time(text: &str) -> Result<Duration, PatternError> {
    let wrong = || PatternError::Time(text.to_owned());
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let time = Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
    // A year is a mistake in typing.
    let sensible = !time.is_zero() && time <= Duration::from_secs(366 * 86_400);
    sensible.then_some(time).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        for text in [
            "constant:50",
            "poisson:0.5",
            "ramp:10:200:60s",
            "sine:50:30:600s",
            "burst:100",
            "burst:100:30s",
            "staggered:200ms",
            "closed:8",
        ] {
            let read: Arrivals = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        assert_eq!(time("1.5m"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn mistakes_are_told_apart() {
        let told = |text: &str| text.parse::<Arrivals>().unwrap_err().to_string();
        insta::assert_snapshot!(told("linear:5"), @"`linear:5` is none of constant:RATE, poisson:RATE, ramp:FROM:TO:TIME, sine:MEAN:SWING:PERIOD, burst:SIZE[:EVERY], staggered:GAP, closed:WORKERS");
        insta::assert_snapshot!(told("constant:0"), @"`0` is no rate: arrivals a second, above 0, at most 1000000");
        insta::assert_snapshot!(told("constant:NaN"), @"`NaN` is no rate: arrivals a second, above 0, at most 1000000");
        insta::assert_snapshot!(told("sine:10:11:1s"), @"a swing of 11 about 10 a second goes below zero");
        insta::assert_snapshot!(told("staggered:200"), @"`200` is no time above zero: a number and one of ms, s, m, h");
        insta::assert_snapshot!(told("closed:0"), @"`0` is no number from 1 to 100000");
        assert!("ramp:0:0:5s".parse::<Arrivals>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z]{0,9}(:[0-9a-z.-]{0,8}){0,4}") {
            if let Ok(Arrivals::Open(pattern)) = text.parse() {
                let mut pacer = pattern.pacer();
                let _ = (pacer.due(0), pacer.due(1_000));
            }
        }
    }
}
