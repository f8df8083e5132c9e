//! What is done each turn, and measured.
//!
//! | module | a turn is |
//! |---|---|
//! | `cold_start` | a sandbox: created, up to where the clock stops, checked, killed |
//! | `lifecycle` | a sandbox's life: checkpoint, rollback, snapshot, fork, pause, resume, each checked |
//! | `exec` | a command in a sandbox that is there |
//! | `files` | a file written to a sandbox that is there, and read again |
//!
//! A turn that fails in one of its steps has failed: all its series get the failure, so that a latency is never of something that
//! did not work.

pub mod cold_start;
pub mod exec;
pub mod files;
pub mod lifecycle;

use std::time::{Duration, Instant};

use crate::e2b::CallError;
use crate::record::{Outcome, Reading, Trouble, recorder};

/// A step that failed.
#[derive(Debug)]
pub struct Failed {
    /// The step.
    pub during: &'static str,
    /// Why.
    pub error: CallError,
}

impl Failed {
    /// A few words for counting failures by kind: the step and what it met.
    #[must_use]
    pub fn kind(&self) -> String {
        format!("{} {}", self.during, self.error.kind())
    }

    /// For people and for giving up.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        Trouble {
            during: self.during,
            message: self.error.to_string(),
            unreachable: self.error.is_unreachable(),
        }
    }
}

/// Names the step that an error came from.
pub trait During<T> {
    /// See the trait.
    ///
    /// # Errors
    /// The error, with the step's name.
    fn during(self, step: &'static str) -> Result<T, Failed>;
}

impl<T> During<T> for Result<T, CallError> {
    fn during(self, step: &'static str) -> Result<T, Failed> {
        self.map_err(|error| Failed {
            during: step,
            error,
        })
    }
}

/// A success.
#[must_use]
pub fn reading(series: usize, value: u64, stages: Vec<(String, u64)>) -> Reading {
    Reading {
        series,
        result: Ok(value),
        stages,
    }
}

/// The outcome of a turn that failed: the failure in each of its series.
#[must_use]
pub fn failed(failed: &Failed, series: &[usize], sandbox: Option<String>) -> Outcome {
    let reading = |series: &usize| Reading {
        series: *series,
        result: Err(failed.kind()),
        stages: Vec::new(),
    };
    Outcome {
        readings: series.iter().map(reading).collect(),
        sandbox,
        trouble: Some(failed.trouble()),
    }
}

/// From when it was due to `at`, in nanoseconds, at least 1.
#[must_use]
pub fn since(planned: Instant, at: Instant) -> u64 {
    recorder::nanos(
        at.saturating_duration_since(planned)
            .max(Duration::from_nanos(1)),
    )
}
