//! Body of a load report.
//!
//! ```text
//!  series        one metric under one set of conditions: counts, quantiles, spectrum, timeline, stages
//!  comparisons   pairs of series that took turns: ratio, interval, verdict
//!  density       memory by number of live sandboxes
//!  leaks         what was there before and after
//!  client        what measuring itself cost
//! ```

mod client;
mod comparison;
mod density;
mod series;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::client::Client;
pub use self::comparison::{Comparison, Finding, Verdict};
pub use self::density::{Activity, Density, DensityRow, Leak, Stop, StopReason};
pub use self::series::{
    Arrival, Clock, Counts, Interval, Method, Series, SpectrumPoint, Stage, Unit,
};
use super::Body;

/// What a load generator found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Command that was run: `cold-start`, `sweep`, `density`, `lifecycle`, `exec`, `files`, `soak`, `compare`, `replay`, …
    pub scenario: String,
    /// All series, in the order of showing.
    pub series: Vec<Series>,
    /// Comparisons of series that took turns.
    pub comparisons: Vec<Comparison>,
    /// Memory by number of live sandboxes.
    pub density: Option<Density>,
    /// What a run left behind; `null` where nobody could look.
    pub leaks: Option<Vec<Leak>>,
    /// What measuring cost.
    pub client: Option<Client>,
    /// Sentences that belong to the figures: what was left out, what went wrong.
    pub notes: Vec<String>,
}

impl Body for Load {
    const KIND: &'static str = "load";
}
