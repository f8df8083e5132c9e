//! Body of a report on how agents behaved against mock services.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Body;

/// What agents did when tools failed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdicts {
    /// One entry per agent's run.
    pub agents: Vec<AgentRun>,
}

/// One agent's run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentRun {
    /// What the agent is called.
    pub agent: String,
    /// The sandbox that it ran in.
    pub sandbox: Option<String>,
    /// Calls that the mocks had from it.
    pub calls: u64,
    /// One line per rule.
    pub verdicts: Vec<RuleVerdict>,
}

/// One rule's verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleVerdict {
    /// Stable id, such as `retry-after/waited`.
    pub rule: String,
    /// What an agent that keeps it does.
    pub title: String,
    /// Whether it was kept.
    pub standing: RuleStanding,
    /// What shows it: lines of the journal.
    pub evidence: Vec<String>,
}

/// Whether a rule was kept.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RuleStanding {
    /// Whenever it applied.
    Kept,
    /// At least once it was not.
    Broken,
    /// It never applied: says nothing.
    NotExercised,
}

impl Body for Verdicts {
    const KIND: &'static str = "verdicts";
}
