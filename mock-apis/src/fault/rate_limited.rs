//! 429 with Retry-After (RFC 9110, as seconds or as a date) and the `RateLimit-*` fields in use before the draft's structured ones.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Answers 429.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimited {
    /// Seconds to wait.
    pub retry_after_s: u32,
    /// Whether they are written as a date; it is rounded up, so the wait is never shorter than said.
    pub as_date: bool,
    /// Value of `RateLimit-Limit`.
    pub limit: u32,
}

impl Default for RateLimited {
    fn default() -> Self {
        Self { retry_after_s: 1, as_date: false, limit: 10 }
    }
}

impl Effect for RateLimited {
    const ABOUT: &'static str = "429 with Retry-After, as seconds or as a date, and RateLimit fields";

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let value = if self.as_date {
            // A date has whole seconds and loses the rest: one second more keeps the promise.
            let until = scene.now + Duration::from_secs(u64::from(self.retry_after_s) + 1);
            httpdate::fmt_http_date(until)
        } else {
            self.retry_after_s.to_string()
        };
        let reply = Reply::problem(429, "Too Many Requests", serde_json::Value::Null)
            .with("retry-after", value)
            .with("ratelimit-limit", self.limit.to_string())
            .with("ratelimit-remaining", "0")
            .with("ratelimit-reset", self.retry_after_s.to_string());
        Act::Reply(reply)
    }
}
