//! What happened to a sandbox, as log entries.

mod handlers;
pub mod wire;

use axum::routing::get;

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/sandboxes/{sandboxID}/logs",
        summary: "Show what happened to a sandbox (first version)",
        body: None,
        query: &["start", "limit"],
        access: Access::Key,
        success: &[(200, Shape::One("SandboxLogs"))],
        refusals: &[400, 404],
        handler: || get(handlers::first),
    },
    Route {
        method: "GET",
        path: "/v2/sandboxes/{sandboxID}/logs",
        summary: "Show what happened to a sandbox",
        body: None,
        query: &["cursor", "limit", "direction", "level", "search"],
        access: Access::Key,
        success: &[(200, Shape::One("SandboxLogsV2"))],
        refusals: &[400, 404],
        handler: || get(handlers::second),
    },
];

#[cfg(test)]
mod tests;
