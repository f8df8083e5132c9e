//! RST after the headers, before the body.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene, Step};

/// RST after the headers, before the body.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetAfterHeaders {}

impl Effect for ResetAfterHeaders {
    const ABOUT: &'static str = "RST after the headers";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let head = scene.normal.head(Some((scene.normal.body.len() as u64).max(1)));
        // A moment, so that the headers are read before the reset takes what is still unread with it.
        let moment = std::time::Duration::from_millis(50);
        Act::Raw(vec![Step::Send(head), Step::Pause(moment), Step::Reset])
    }
}
