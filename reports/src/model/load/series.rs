//! One metric under one set of conditions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::quantile::Estimate;

/// Readings of one metric that may stand in one distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Name within the report: samples and comparisons refer to it.
    pub name: String,
    /// What was measured: `cold_start`, `pause`, `exec`, `file_write`, …
    pub metric: String,
    /// The clock of a cold start.
    pub clock: Option<Clock>,
    /// Unit of all its values.
    pub unit: Unit,
    /// Conditions by name, all of them: `concurrency`, `rate`, `state` (`cold`, `warm`, `boot`, `forked`), `template`, `side`.
    pub dimensions: BTreeMap<String, String>,
    /// When requests were sent.
    pub arrival: Arrival,
    /// What became of them.
    pub counts: Counts,
    /// From the first planned send to the last answer, warm-up apart.
    pub wall_ns: u64,
    /// How quantiles and spectrum were read.
    pub method: Method,
    /// Quantiles of successes. One that the count does not support is marked, not hidden.
    pub quantiles: Vec<Estimate>,
    /// Least success.
    pub min: Option<u64>,
    /// Greatest.
    pub max: Option<u64>,
    /// Mean, rounded.
    pub mean: Option<u64>,
    /// The whole distribution, rising; a few dozen points.
    pub spectrum: Vec<SpectrumPoint>,
    /// What happened when; one entry per interval of one length, without gaps.
    pub timeline: Vec<Interval>,
    /// Spans that the server told, in their order, none within another.
    pub stages: Vec<Stage>,
    /// File beside the report with the percentile text form.
    pub hgrm: Option<String>,
    /// File beside the report with the V2 interval log.
    pub hlog: Option<String>,
}

/// Where a cold start's clock stops; all start at the planned send.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The create's answer was fully read.
    Accepted,
    /// The agent answered `GET /health` through the data plane.
    Ready,
    /// The first command's exit was received (time to interactive).
    FirstExec,
    /// The first `run_code("1+1")` gave its result.
    FirstCode,
}

impl Clock {
    /// Its name in figures and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Ready => "ready",
            Self::FirstExec => "first_exec",
            Self::FirstCode => "first_code",
        }
    }
}

/// Unit of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    /// Nanoseconds: less is better.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Bytes a second: more is better.
    #[serde(rename = "bytes_per_s")]
    BytesPerSecond,
    /// Bytes: less is better.
    #[serde(rename = "bytes")]
    Bytes,
}

/// When requests were sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// `constant`, `poisson`, `burst`, `staggered`, `ramp`, `sine`, `trace`, `closed`.
    pub model: String,
    /// Whether sends waited for answers: then stalls of the server are not in the figures.
    pub closed_loop: bool,
    /// Planned sends a second, where the model has a rate.
    pub offered_per_s: Option<f64>,
    /// Successes a second.
    pub achieved_per_s: f64,
}

/// What became of the requests of a series.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RequestCounts")]
pub struct Counts {
    /// Requests of the schedule.
    pub planned: u64,
    /// Those that were sent.
    pub sent: u64,
    /// Those that were not: no worker was free in time.
    pub dropped: u64,
    /// Successes; only they are in the distribution.
    pub ok: u64,
    /// Failures by kind, such as `http 503`, `timeout`, `no answer to exec`.
    pub failures: BTreeMap<String, u64>,
    /// Sent before measuring began; in no other figure.
    pub warm_up: u64,
}

impl Counts {
    /// All failures.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// How quantiles were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// HDR histogram of three significant digits, value at quantile.
    Hdr3,
    /// The sorted samples themselves, nearest rank.
    NearestRank,
}

/// One point of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpectrumPoint {
    /// Share of successes up to `value`, 0 to 1.
    pub share: f64,
    /// Value.
    pub value: u64,
    /// Successes up to it.
    pub count: u64,
}

/// One interval of time. A request belongs to the interval of its planned send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Its begin, nanoseconds since the run began.
    pub at_ns: u64,
    /// Its length.
    pub length_ns: u64,
    /// Requests that were planned in it.
    pub planned: u64,
    /// Of them, successes.
    pub ok: u64,
    /// Failures.
    pub failed: u64,
    /// Dropped.
    pub dropped: u64,
    /// Most requests at once.
    pub in_flight: u64,
    /// Median of the successes.
    pub p50: Option<u64>,
    /// P99 of the successes; their greatest where there are fewer than a hundred.
    pub p99: Option<u64>,
}

/// A span that the server told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Samples that had it.
    pub count: u64,
    /// Mean over all successes of the series, absent ones as zero: so that means add up.
    pub mean_ns: u64,
    /// Median where it was told.
    pub p50_ns: u64,
    /// P95 where it was told.
    pub p95_ns: u64,
}

impl Series {
    /// What the stages do not explain of the mean: negative where they tell more than the client saw.
    #[must_use]
    pub fn unexplained_ns(&self) -> Option<i64> {
        let told: u64 = self.stages.iter().map(|stage| stage.mean_ns).sum();
        let mean = i64::try_from(self.mean?).ok()?;
        (!self.stages.is_empty()).then_some(mean - i64::try_from(told).ok()?)
    }
}
