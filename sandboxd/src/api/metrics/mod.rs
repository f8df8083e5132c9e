//! Resource use of sandboxes.
//!
//! Samples come from the agent in the guest: one is taken when it is asked for, and others at the interval the server
//! was started with. The newest are kept per sandbox.

mod handlers;
pub mod wire;

use axum::routing::get;

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/sandboxes/{sandboxID}/metrics",
        summary: "Show the resource use of a sandbox",
        body: None,
        query: &["start", "end"],
        access: Access::Key,
        success: &[(200, Shape::Many("SandboxMetric"))],
        refusals: &[400, 404],
        handler: || get(handlers::of_one),
    },
    Route {
        method: "GET",
        path: "/sandboxes/metrics",
        summary: "Show the latest resource use of many sandboxes",
        body: None,
        query: &["sandbox_ids"],
        access: Access::Key,
        success: &[(200, Shape::One("LatestMetrics"))],
        refusals: &[400],
        handler: || get(handlers::of_many),
    },
];

#[cfg(test)]
mod tests;
