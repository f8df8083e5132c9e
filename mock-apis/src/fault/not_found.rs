//! 404: there is no such thing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 404.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotFound {
    /// What the reply says, beside its title.
    pub detail: String,
}

impl Effect for NotFound {
    const ABOUT: &'static str = "404: there is no such thing";

    fn act(&self, _: &mut Scene<'_>) -> Act {
        let more = serde_json::json!({"detail": self.detail});
        Act::Reply(Reply::problem(404, "Not Found", more))
    }
}
