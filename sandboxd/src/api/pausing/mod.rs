//! Pausing a sandbox, and the old way of resuming it; today's is `connect`.
//!
//! | call | on a running sandbox | on a paused one |
//! |---|---|---|
//! | `pause` | 204; a snapshot takes the place of its machine | 409 |
//! | `resume` | 409 | 201; it runs again |
//!
//! A paused sandbox takes no memory and no network of the host, only disk. It has no deadline: it stays until it is
//! resumed or killed, across restarts of the daemon too. With its memory (`full`) processes go on where they were; with
//! its disk alone (`filesystem`) it boots.

mod handlers;
pub mod wire;

use axum::routing::post;

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: "/sandboxes/{sandboxID}/pause",
        summary: "Pause a sandbox",
        body: Some("PauseRequest"),
        query: &[],
        access: Access::Key,
        success: &[(204, Shape::Empty)],
        refusals: &[400, 404, 409, 503],
        handler: || post(handlers::pause),
    },
    Route {
        method: "POST",
        path: "/sandboxes/{sandboxID}/resume",
        summary: "Resume a paused sandbox (first version; connect does the same)",
        body: Some("ResumeRequest"),
        query: &[],
        access: Access::Key,
        success: &[(201, Shape::One("Sandbox"))],
        refusals: &[400, 404, 409, 429, 503, 504],
        handler: || post(handlers::resume),
    },
];

#[cfg(test)]
mod tests;
