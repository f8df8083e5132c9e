//! Bodies of pause and resume. Pure.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::sandboxes::wire::seconds;

/// Seconds that resume gives when nothing is said.
const DEFAULT_RESUME: u32 = 15;

/// Body of `POST …/pause`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PauseRequest {
    /// Whether memory is kept (the default), or the disk alone.
    pub memory: Option<bool>,
    /// Whether a guest that does not answer is a reason to refuse; it always is.
    #[serde(rename = "requireHealthyGuest")]
    #[schema(rename = "requireHealthyGuest")]
    pub _require_healthy_guest: Option<bool>,
}

/// Body of `POST …/resume`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ResumeRequest {
    /// Seconds from now, at least 1; 15 when absent.
    pub timeout: Option<i64>,
    /// Whether memory is used (the default), or the sandbox boots from its disk.
    pub memory: Option<bool>,
    /// Deprecated; must be what the sandbox was created with, or absent.
    pub auto_pause: Option<bool>,
}

impl ResumeRequest {
    /// The seconds.
    pub fn check(&self, longest_life: u32) -> Result<u32, ApiError> {
        let default = DEFAULT_RESUME.min(longest_life);
        seconds("timeout", self.timeout, default, 1, longest_life)
    }
}
