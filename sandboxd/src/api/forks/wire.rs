//! Bodies of a fork. Pure.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::{ApiError, ErrorBody};
use crate::api::sandboxes::wire::{Sandbox, seconds};

/// Seconds that children live when nothing is said.
const DEFAULT_TIMEOUT: u32 = 15;

/// Most children of one call.
const MOST: i64 = 100;

/// Body of `POST …/fork`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    /// Seconds that each child lives, at least 1; 15 when absent.
    pub timeout: Option<i64>,
    /// Children, 1 to 100; 1 when absent. Fewer than the server's limit of sandboxes.
    pub count: Option<i64>,
}

/// What became of one child.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fork {
    /// It runs.
    Sandbox(Sandbox),
    /// It could not be made.
    Error(ErrorBody),
}

impl ForkRequest {
    /// Children and their seconds. `limit` is how many sandboxes there may be.
    pub fn check(&self, longest_life: u32, limit: usize) -> Result<(u32, u32), ApiError> {
        let default = DEFAULT_TIMEOUT.min(longest_life);
        let timeout = seconds("timeout", self.timeout, default, 1, longest_life)?;
        let count = self.count.unwrap_or(1);
        let fits = usize::try_from(count).is_ok_and(|count| count < limit);
        let count = u32::try_from(count)
            .ok()
            .filter(|_| (1..=MOST).contains(&count));
        match count {
            None => Err(ApiError::Field {
                field: "count",
                why: format!("it must be a number from 1 to {MOST}"),
            }),
            Some(_) if !fits => Err(ApiError::Field {
                field: "count",
                why: format!(
                    "the source and its children are more than the {limit} sandboxes that there may be"
                ),
            }),
            Some(count) => Ok((count, timeout)),
        }
    }
}
