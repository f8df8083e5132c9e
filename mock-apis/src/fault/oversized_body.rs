//! A body far larger than any reader should take. One block is held in memory, however large it is.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Scene, Step};

const BLOCK: u64 = 64 * 1024;

/// Answers with spaces, then the normal reply: valid JSON for whoever reads it all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OversizedBody {
    /// Size in MiB.
    pub mib: u32,
}

impl Default for OversizedBody {
    fn default() -> Self {
        Self { mib: 256 }
    }
}

impl Effect for OversizedBody {
    const ABOUT: &'static str = "a body of many MiB";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let times = u64::from(self.mib) * 1024 * 1024 / BLOCK;
        let body = scene.normal.body.clone();
        let head = scene.normal.head(Some(times * BLOCK + body.len() as u64));
        let bytes = Bytes::from(vec![b' '; 64 * 1024]);
        Act::Raw(vec![Step::Send(head), Step::Repeat { bytes, times }, Step::Send(body)])
    }
}
