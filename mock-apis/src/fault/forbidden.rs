//! 403: the credential is known and not enough; another one is not asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 403.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Forbidden {
    /// What the reply says, beside its title.
    pub detail: String,
}

impl Effect for Forbidden {
    const ABOUT: &'static str = "403: the credential is known and not enough";

    fn act(&self, _: &mut Scene<'_>) -> Act {
        let more = serde_json::json!({"detail": self.detail});
        Act::Reply(Reply::problem(403, "Forbidden", more))
    }
}
