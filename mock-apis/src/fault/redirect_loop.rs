//! 307 to itself, for ever.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene};

/// Redirects to the same path.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectLoop {}

impl Effect for RedirectLoop {
    const ABOUT: &'static str = "a redirect to itself";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        Act::Reply(Reply::new(307).with("location", scene.path))
    }
}
