//! The normal reply: for rules that let some calls through before others are reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene};

/// Answers as if there were no fault.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Succeed {}

impl Effect for Succeed {
    const ABOUT: &'static str = "the normal reply";
    const WORKS: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        Act::Reply(scene.normal.clone())
    }
}
