//! The length is right, half of the body comes, and the connection is closed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene, Step};

/// Closes in the middle of the body.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TruncatedBody {}

impl Effect for TruncatedBody {
    const ABOUT: &'static str = "half of the body, then the end";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let whole = &scene.normal.body;
        // An empty body cannot be cut: one byte is promised that never comes.
        let length = (whole.len() as u64).max(1);
        let head = scene.normal.head(Some(length));
        Act::Raw(vec![Step::Send(head), Step::Send(whole.slice(..whole.len() / 2))])
    }
}
