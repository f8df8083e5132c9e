//! What drivers tell the recorder.

use std::time::Duration;

/// One planned turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// From 0.
    pub number: u64,
    /// When it was due, from the beginning of the run.
    pub planned: Duration,
    /// Block that it belongs to, for resampling.
    pub round: u32,
    /// Which side of a comparison, step of a sweep, …: an offset that its work adds to the index of its series.
    pub side: usize,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A turn was sent and is over.
    Done {
        /// Which.
        job: Job,
        /// When it was sent, from the beginning.
        sent: Duration,
        /// When it was over, from the beginning.
        ended: Duration,
        /// Turns under way when it was sent, itself included.
        in_flight: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// A turn was not sent: too many were under way.
    Dropped {
        /// Which.
        job: Job,
        /// The series in which it is missing.
        series: Vec<usize>,
    },
    /// A turn was sent and had no end when the run was cut short.
    Abandoned {
        /// Which.
        job: Job,
        /// When it was sent.
        sent: Duration,
        /// The series in which it is missing.
        series: Vec<usize>,
    },
}

/// What came of a turn.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was read.
    pub readings: Vec<Reading>,
    /// The sandbox, where there was one.
    pub sandbox: Option<String>,
    /// What went wrong.
    pub trouble: Option<Trouble>,
}

/// One reading of one series.
#[derive(Debug)]
pub struct Reading {
    /// Index of the series.
    pub series: usize,
    /// Its value, or the kind of its failure.
    pub result: Result<u64, String>,
    /// What the server told of it.
    pub stages: Vec<(String, u64)>,
}

/// What went wrong, for people and for giving up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What was being done.
    pub during: &'static str,
    /// In words.
    pub message: String,
    /// Whether no server was reached at all.
    pub unreachable: bool,
}
