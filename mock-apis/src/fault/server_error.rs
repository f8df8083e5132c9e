//! 500: the server broke; whether anything was done is not known.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 500.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerError {
    /// What the reply says, beside its title.
    pub detail: String,
}

impl Effect for ServerError {
    const ABOUT: &'static str = "500: the server broke";

    fn act(&self, _: &mut Scene<'_>) -> Act {
        let more = serde_json::json!({"detail": self.detail});
        Act::Reply(Reply::problem(500, "Internal Server Error", more))
    }
}
