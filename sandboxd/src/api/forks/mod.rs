//! Forks: children that go on where a running sandbox is, with its memory, disk, metadata, environment and network options,
//! each with an id and tokens of its own.
//!
//! The answer has one entry per child, `{"sandbox": …}` or `{"error": {"code", "message"}}`: some may succeed where others
//! find no room.

mod handlers;
pub mod wire;

use axum::routing::post;

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[Route {
    method: "POST",
    path: "/sandboxes/{sandboxID}/fork",
    summary: "Fork a running sandbox",
    body: Some("ForkRequest"),
    query: &[],
    access: Access::Key,
    success: &[(201, Shape::Many("Fork"))],
    refusals: &[400, 404, 409, 503],
    handler: || post(handlers::fork),
}];

#[cfg(test)]
mod tests;
