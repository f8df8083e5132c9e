//! Headers byte by byte, the body at once.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene, Step};

/// Headers byte by byte, the body at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlowHeaders {
    /// Milliseconds between two bytes.
    pub gap_ms: u32,
}

impl Default for SlowHeaders {
    fn default() -> Self {
        Self { gap_ms: 20 }
    }
}

impl Effect for SlowHeaders {
    const ABOUT: &'static str = "headers that trickle";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let bytes = scene.normal.head(Some(scene.normal.body.len() as u64));
        let gap = Duration::from_millis(u64::from(self.gap_ms));
        Act::Raw(vec![Step::Dribble { bytes, gap }, Step::Send(scene.normal.body.clone())])
    }
}
