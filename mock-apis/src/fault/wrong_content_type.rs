//! The right body under another content type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene};

/// Answers with another content type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WrongContentType {
    /// The type.
    pub content_type: String,
}

impl Default for WrongContentType {
    fn default() -> Self {
        Self { content_type: "text/html".into() }
    }
}

impl Effect for WrongContentType {
    const ABOUT: &'static str = "the right body with a content type that is not its";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let mut reply = scene.normal.clone();
        reply.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        Act::Reply(reply.with("content-type", &self.content_type))
    }
}
