//! How long a sandbox lives: timeout, refreshes, connect. Connecting to a paused sandbox resumes it.
//!
//! | call | deadline |
//! |---|---|
//! | `timeout` | now + seconds, nearer or farther; 0 ends the sandbox |
//! | `refreshes` | now + seconds where that is later |
//! | `connect` | now + seconds where that is later; otherwise unchanged to the byte; of a paused one now + seconds |
//!
//! No deadline lies beyond the start (or the last resume) plus the longest life that the server allows.

mod handlers;
pub mod wire;

use axum::routing::post;

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: "/sandboxes/{sandboxID}/timeout",
        summary: "Set when a sandbox ends",
        body: Some("TimeoutRequest"),
        query: &[],
        access: Access::Key,
        success: &[(204, Shape::Empty)],
        refusals: &[400, 404, 409],
        handler: || post(handlers::timeout),
    },
    Route {
        method: "POST",
        path: "/sandboxes/{sandboxID}/refreshes",
        summary: "Keep a sandbox alive",
        body: Some("RefreshRequest"),
        query: &[],
        access: Access::Key,
        success: &[(204, Shape::Empty)],
        refusals: &[400, 404, 409],
        handler: || post(handlers::refresh),
    },
    Route {
        method: "POST",
        path: "/v2/sandboxes/{sandboxID}/connect",
        summary: "Connect to a sandbox and keep it alive",
        body: Some("ConnectRequest"),
        query: &[],
        access: Access::Key,
        success: &[(200, Shape::One("Sandbox")), (201, Shape::One("Sandbox"))],
        refusals: &[400, 404, 409, 429, 503, 504],
        handler: || post(handlers::connect_v2),
    },
    Route {
        method: "POST",
        path: "/sandboxes/{sandboxID}/connect",
        summary: "Connect to a sandbox and keep it alive (first version)",
        body: Some("ConnectRequest"),
        query: &[],
        access: Access::Key,
        success: &[(200, Shape::One("Sandbox")), (201, Shape::One("Sandbox"))],
        refusals: &[400, 404, 409, 429, 503, 504],
        handler: || post(handlers::connect_v1),
    },
];

#[cfg(test)]
mod tests;
