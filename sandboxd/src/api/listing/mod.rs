//! Lists of sandboxes: filters, order, pages.
//!
//! ```text
//!   all ─► state, metadata, startedAfter, template ─► count (X-Total-Running) ─► order ─► behind nextToken ─► limit
//! ```
//!
//! A page token names the last sandbox of the page before by start time and id, and the order it was made for; it
//! stays valid when that sandbox is gone.

mod handlers;
pub mod wire;

use axum::routing::get;

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/v2/sandboxes",
        summary: "List sandboxes by page",
        body: None,
        query: &[
            "metadata",
            "state",
            "order",
            "startedAfter",
            "template",
            "nextToken",
            "limit",
        ],
        access: Access::Key,
        success: &[(200, Shape::Many("ListedSandbox"))],
        refusals: &[400],
        handler: || get(handlers::page),
    },
    Route {
        method: "GET",
        path: "/sandboxes",
        summary: "List running sandboxes",
        body: None,
        query: &["metadata"],
        access: Access::Key,
        success: &[(200, Shape::Many("ListedSandbox"))],
        refusals: &[400],
        handler: || get(handlers::running),
    },
];

#[cfg(test)]
mod tests;
