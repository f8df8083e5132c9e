//! The service itself: whether it is up, what it speaks, what it counts.

mod handlers;
pub mod wire;

use axum::routing::get;

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/health",
        summary: "Say whether the service is up",
        body: None,
        query: &[],
        access: Access::Open,
        success: &[(200, Shape::Text)],
        refusals: &[],
        handler: || get(handlers::health),
    },
    Route {
        method: "GET",
        path: "/openapi.json",
        summary: "Show this document",
        body: None,
        query: &[],
        access: Access::Open,
        success: &[(200, Shape::One("OpenApi"))],
        refusals: &[],
        handler: || get(handlers::openapi),
    },
    Route {
        method: "GET",
        path: "/metrics",
        summary: "Show the service's counters in Prometheus' text format",
        body: None,
        query: &[],
        access: Access::Open,
        success: &[(200, Shape::Text)],
        refusals: &[],
        handler: || get(handlers::metrics),
    },
];

#[cfg(test)]
mod tests;
