//! 502: a proxy got nonsense from the server behind it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 502.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BadGateway {
    /// What the reply says, beside its title.
    pub detail: String,
}

impl Effect for BadGateway {
    const ABOUT: &'static str = "502: a proxy got nonsense from behind";

    fn act(&self, _: &mut Scene<'_>) -> Act {
        let more = serde_json::json!({"detail": self.detail});
        Act::Reply(Reply::problem(502, "Bad Gateway", more))
    }
}
