//! The connection is closed without a byte.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene};

/// The connection is closed without a byte.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyReply {}

impl Effect for EmptyReply {
    const ABOUT: &'static str = "no byte at all";
    const MESSAGE: bool = true;

    fn act(&self, _: &mut Scene<'_>) -> Act {
        Act::Raw(vec![])
    }
}
