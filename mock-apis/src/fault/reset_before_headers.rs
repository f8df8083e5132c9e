//! RST before a byte of the reply.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene, Step};

/// RST before a byte of the reply.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetBeforeHeaders {}

impl Effect for ResetBeforeHeaders {
    const ABOUT: &'static str = "RST before the headers";
    const MESSAGE: bool = true;

    fn act(&self, _: &mut Scene<'_>) -> Act {
        Act::Raw(vec![Step::Reset])
    }
}
