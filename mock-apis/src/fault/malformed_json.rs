//! A body that says it is JSON and stops in the middle of it; the HTTP around it is right.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene};

/// Answers with broken JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MalformedJson {}

impl Effect for MalformedJson {
    const ABOUT: &'static str = "a body that is not JSON though it says so";

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let mut reply = scene.normal.clone();
        // Half of an object or list is never JSON; half of anything else might be, so it gets an opening brace.
        let whole = &scene.normal.body;
        let nested = matches!(whole.first(), Some(b'{' | b'['));
        let body = if nested { whole.slice(..whole.len() / 2 + 1 - whole.len() % 2) } else { bytes::Bytes::from_static(b"{\"") };
        reply.body = if serde_json::from_slice::<serde_json::Value>(&body).is_ok() { bytes::Bytes::from_static(b"{\"") } else { body };
        Act::Reply(reply)
    }
}
