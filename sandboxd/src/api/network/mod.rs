//! Network options of a running sandbox.

mod handlers;
pub mod wire;

use axum::routing::put;

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[Route {
    method: "PUT",
    path: "/sandboxes/{sandboxID}/network",
    summary: "Replace what a sandbox may reach",
    body: Some("NetworkUpdate"),
    query: &[],
    access: Access::Key,
    success: &[(204, Shape::Empty)],
    refusals: &[400, 404, 409],
    handler: || put(handlers::replace),
}];

#[cfg(test)]
mod tests;
