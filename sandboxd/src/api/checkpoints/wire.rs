//! Checkpoints as clients see them. Pure.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::fields::bad;
use crate::lifecycle::checkpoints::AUTO;
use crate::lifecycle::sandbox;
use crate::moment::Moment;
use crate::store::captures::SavedCapture;

/// Longest name of a checkpoint.
const MAX_NAME: usize = 64;

/// Most automatic checkpoints that are kept of a sandbox, and when nothing is said.
const MOST_KEPT: i64 = 100;
const DEFAULT_KEPT: i64 = 10;

/// Body of `POST …/checkpoints`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRequest {
    /// 1 to 64 of `a-z 0-9 - _ .`, not beginning with `auto-`.
    pub name: String,
}

/// Body of `POST …/rollback`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Name of the checkpoint.
    pub checkpoint: String,
}

/// A checkpoint.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Its name.
    pub name: String,
    /// When it was asked for.
    #[schema(value_type = String)]
    pub created_at: Moment,
}

/// `autoCheckpoint` of a create request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AutoCheckpoint {
    /// A checkpoint is taken before the first command, and then before every so many; at least 1.
    pub every_commands: i64,
    /// How many of them are kept, 1 to 100; 10 when absent.
    pub keep: Option<i64>,
}

impl CheckpointRequest {
    /// The name.
    pub fn check(self) -> Result<String, ApiError> {
        let bytes = self.name.bytes();
        let mut known =
            bytes.map(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        let valid = (1..=MAX_NAME).contains(&self.name.len()) && known.all(|known| known);
        match valid {
            false => Err(bad(
                "name",
                "it must be 1 to 64 lower-case letters, digits, dots, hyphens and underscores",
            )),
            true if self.name.starts_with(AUTO) => Err(bad(
                "name",
                "names that begin with auto- are those of automatic checkpoints",
            )),
            true => Ok(self.name),
        }
    }
}

impl AutoCheckpoint {
    /// The checked option.
    pub fn check(self) -> Result<sandbox::AutoCheckpoint, ApiError> {
        let every_commands = u32::try_from(self.every_commands).ok().filter(|n| *n > 0);
        let keep = self.keep.unwrap_or(DEFAULT_KEPT);
        let keep = u32::try_from(keep)
            .ok()
            .filter(|_| (1..=MOST_KEPT).contains(&keep));
        Ok(sandbox::AutoCheckpoint {
            every_commands: every_commands
                .ok_or_else(|| bad("autoCheckpoint.everyCommands", "it must be at least 1"))?,
            keep: keep
                .ok_or_else(|| bad("autoCheckpoint.keep", "it must be a number from 1 to 100"))?,
        })
    }
}

impl From<&SavedCapture> for Checkpoint {
    fn from(row: &SavedCapture) -> Self {
        Self {
            name: row.checkpoint.clone().unwrap_or_default(),
            created_at: row.created_at,
        }
    }
}
