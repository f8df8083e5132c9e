//! Raw samples: one JSON object a line, in the order in which their requests were planned.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One request, or one planned request that was never sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// `name` of its series.
    pub series: String,
    /// Block that it was measured in, from 0. Sides that are compared share numbers when they took turns, so that a round
    /// is one mood of the machine. A series without turns has blocks by time.
    pub round: u32,
    /// When it should have been sent, nanoseconds since the run began.
    pub planned_ns: u64,
    /// When it was; `null` where it was dropped.
    pub sent_ns: Option<u64>,
    /// What was read, in the unit of its series: from the planned instant for a time. `null` where it failed or was dropped.
    pub value: Option<u64>,
    /// The kind of its failure, as counted by its series.
    pub failure: Option<String>,
    /// The sandbox, where there is one.
    pub sandbox: Option<String>,
    /// Stages within it that the server told, nanoseconds by name.
    pub stages_ns: BTreeMap<String, u64>,
}
