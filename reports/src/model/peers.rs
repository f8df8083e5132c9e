//! Body of a comparison with other products on one host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::{Comparison, DensityRow, Series};
use super::{Body, Tool};

/// Ours beside others. Series have a dimension `arm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// Who took part: `name` is the arm.
    pub arms: Vec<Tool>,
    /// All series.
    pub series: Vec<Series>,
    /// Ours against each.
    pub comparisons: Vec<Comparison>,
    /// Memory of machines side by side.
    pub memory: Vec<ArmMemory>,
    /// Sentences that belong to the figures.
    pub notes: Vec<String>,
}

/// Memory of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmMemory {
    /// Whose.
    pub arm: String,
    /// The reading.
    pub reading: DensityRow,
}

impl Body for Peers {
    const KIND: &'static str = "peers";
}
