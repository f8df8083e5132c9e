//! Headers at once, the body byte by byte.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene, Step};

/// Headers at once, the body byte by byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DribbledBody {
    /// Milliseconds between two bytes.
    pub gap_ms: u32,
}

impl Default for DribbledBody {
    fn default() -> Self {
        Self { gap_ms: 20 }
    }
}

impl Effect for DribbledBody {
    const ABOUT: &'static str = "a body that trickles";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let head = scene.normal.head(Some(scene.normal.body.len() as u64));
        let gap = Duration::from_millis(u64::from(self.gap_ms));
        Act::Raw(vec![Step::Send(head), Step::Dribble { bytes: scene.normal.body.clone(), gap }])
    }
}
