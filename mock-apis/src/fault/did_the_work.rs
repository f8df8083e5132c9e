//! The work is done, and the answer is 503: what only a retry with the same idempotency key survives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Does the work and answers 503.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DidTheWork {}

impl Effect for DidTheWork {
    const ABOUT: &'static str = "503 although the work was done";
    const WORKS: bool = true;

    fn act(&self, _: &mut Scene<'_>) -> Act {
        Act::Reply(Reply::problem(503, "Service Unavailable", serde_json::Value::Null))
    }
}
