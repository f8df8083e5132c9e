//! Nothing, until the client gives up or the time is over.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene, Step};

/// Nothing, until the client gives up or the time is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hang {
    /// Milliseconds until the connection is closed.
    pub for_ms: u32,
}

impl Default for Hang {
    fn default() -> Self {
        Self { for_ms: 60_000 }
    }
}

impl Effect for Hang {
    const ABOUT: &'static str = "no answer, to time-out";
    const MESSAGE: bool = true;

    fn act(&self, _: &mut Scene<'_>) -> Act {
        Act::Raw(vec![Step::Pause(Duration::from_millis(u64::from(self.for_ms)))])
    }
}
