//! The refusal.

use crate::api::error::ApiError;

pub fn refuse(feature: &'static str) -> ApiError {
    ApiError::Feature(feature)
}
