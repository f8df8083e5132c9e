//! `GET /health`: 204 as long as the agent answers. Never needs a token (E2B: any 2xx means alive).

use axum::http::StatusCode;

/// Answers 204.
pub async fn get() -> StatusCode {
    StatusCode::NO_CONTENT
}
