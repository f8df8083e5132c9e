//! Content-Length promises less than the body has: a client that believes it reads half a body and finds garbage after it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene, Step};

/// Sends more than it promises.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrongLength {}

impl Effect for WrongLength {
    const ABOUT: &'static str = "a Content-Length smaller than the body";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let body = if scene.normal.body.is_empty() { bytes::Bytes::from_static(b"{}") } else { scene.normal.body.clone() };
        let head = scene.normal.head(Some(body.len() as u64 / 2));
        Act::Raw(vec![Step::Send(head), Step::Send(body)])
    }
}
