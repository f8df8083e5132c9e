//! `/files`: download, upload, composition.
//!
//! ```text
//! GET  /files?path&username[&signature&signature_expiration]           download
//! POST /files[?path]&username…   multipart/form-data | octet-stream    upload
//! POST /files/compose            JSON, access token only               compose
//!
//! access      query → may it? (signature) → which user? → which path?
//! download    range + conditions (range), gzip or not (encoding), headers
//! upload      gzip or not, form or bytes, X-Metadata-* (metadata), write
//! ```
//!
//! The agent reads and writes as root and gives what it makes to the user; see
//! [`operations`](crate::filesystem::operations). Errors are `{code, message}` (see [`error`]). Source: the HTTP
//! face of E2B's agent, and RFC 9110.

pub mod access;
mod compose;
mod download;
pub mod encoding;
pub mod error;
pub mod headers;
pub mod metadata;
pub mod range;
pub mod signature;
mod upload;
pub mod write;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};

use crate::auth;
use crate::state::SharedState;

/// A composition's JSON may name some ten thousand paths.
const MAX_COMPOSITION: usize = 4 * 1024 * 1024;

/// The routes, with their own access rules.
pub fn router(state: SharedState) -> Router {
    let compose = Router::new()
        .route("/files/compose", post(compose::post))
        .layer(DefaultBodyLimit::max(MAX_COMPOSITION))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            auth::require_token,
        ));
    Router::new()
        .route("/files", get(download::get).post(upload::post))
        .layer(DefaultBodyLimit::disable())
        .merge(compose)
        .with_state(state)
}

#[cfg(test)]
mod tests;
