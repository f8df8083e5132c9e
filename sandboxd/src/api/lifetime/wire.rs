//! Bodies of the calls that move a deadline. Pure.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::sandboxes::wire::seconds;

/// Least seconds that a refresh gives.
const LEAST_REFRESH: u32 = 15;

/// Most seconds that a refresh gives.
const MOST_REFRESH: u32 = 3_600;

/// Seconds that the second version of connect gives when nothing is said.
const DEFAULT_CONNECT: u32 = 300;

/// Body of `POST …/timeout`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutRequest {
    /// Seconds from now; 0 ends the sandbox.
    pub timeout: i64,
}

/// Body of `POST …/refreshes`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// Seconds from now, at most 3600; 15 are given at least.
    pub duration: Option<i64>,
}

/// Body of `POST …/connect`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// Seconds from now; required in the first version, 300 in the second.
    pub timeout: Option<i64>,
    /// Whether a paused sandbox goes on with its memory (the default) or boots from its disk; without a meaning for a
    /// running one.
    pub memory: Option<bool>,
}

impl TimeoutRequest {
    /// The seconds; more than the longest life count as that.
    pub fn check(&self) -> Result<u32, ApiError> {
        seconds("timeout", Some(self.timeout), 0, 0, i32::MAX.unsigned_abs())
    }
}

impl RefreshRequest {
    /// The seconds.
    pub fn check(&self) -> Result<u32, ApiError> {
        let asked = seconds("duration", self.duration, LEAST_REFRESH, 0, MOST_REFRESH)?;
        Ok(asked.max(LEAST_REFRESH))
    }
}

impl ConnectRequest {
    /// The seconds for the second version.
    pub fn check_v2(&self) -> Result<u32, ApiError> {
        let most = i32::MAX.unsigned_abs();
        seconds("timeout", self.timeout, DEFAULT_CONNECT, 0, most)
    }

    /// The seconds for the first version.
    pub fn check_v1(&self) -> Result<u32, ApiError> {
        if self.timeout.is_none() {
            return Err(ApiError::Body("missing field `timeout`".to_owned()));
        }
        if self.memory.is_some() {
            return Err(ApiError::Body("unknown field `memory`".to_owned()));
        }
        self.check_v2()
    }
}
