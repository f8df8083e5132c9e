//! 401 with a challenge (RFC 6750).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 401.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Unauthorized {
    /// Value of `WWW-Authenticate`.
    pub challenge: String,
}

impl Default for Unauthorized {
    fn default() -> Self {
        Self { challenge: "Bearer realm=\"mock\", error=\"invalid_token\"".into() }
    }
}

impl Effect for Unauthorized {
    const ABOUT: &'static str = "401 with a challenge";

    fn act(&self, _: &mut Scene<'_>) -> Act {
        let reply = Reply::problem(401, "Unauthorized", serde_json::Value::Null);
        Act::Reply(reply.with("www-authenticate", &self.challenge))
    }
}
