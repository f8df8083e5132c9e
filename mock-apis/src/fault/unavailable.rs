//! 503, with or without a time after which to come back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 503.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Unavailable {
    /// Seconds to wait; without it there is no Retry-After.
    pub retry_after_s: Option<u32>,
}

impl Effect for Unavailable {
    const ABOUT: &'static str = "503, with Retry-After when given";

    fn act(&self, _: &mut Scene<'_>) -> Act {
        let reply = Reply::problem(503, "Service Unavailable", serde_json::Value::Null);
        Act::Reply(match self.retry_after_s {
            Some(seconds) => reply.with("retry-after", seconds.to_string()),
            None => reply,
        })
    }
}
