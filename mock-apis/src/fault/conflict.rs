//! 409: the state of things forbids it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 409.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Conflict {
    /// What the reply says, beside its title.
    pub detail: String,
}

impl Effect for Conflict {
    const ABOUT: &'static str = "409: the state of things forbids it";

    fn act(&self, _: &mut Scene<'_>) -> Act {
        let more = serde_json::json!({"detail": self.detail});
        Act::Reply(Reply::problem(409, "Conflict", more))
    }
}
