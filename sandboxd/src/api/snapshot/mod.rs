//! Snapshots of running sandboxes, from which new ones are created as from a template.
//!
//! ```text
//!   POST …/snapshots {"name": "mine:v1"} ──► 201 {"snapshotID": "mine:v1", "names": ["mine:v1"]}
//!   POST …/snapshots {}                  ──► 201 {"snapshotID": "s3k…:default", "names": []}
//!   POST /v2/sandboxes {"templateID": "mine:v1"}
//!   DELETE /templates/mine%3Av1 ──► 204, or 400 while a sandbox that was created from it exists
//! ```
//!
//! The source goes on. A name without a tag means the tag `default`; using a name again adds a build, and the newest
//! counts. There are no teams, so that a name has no namespace.

mod handlers;
pub mod wire;

use axum::routing::{delete, get, post};

use super::routes::{Access, Route, Shape};

pub use handlers::find;

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: "/sandboxes/{sandboxID}/snapshots",
        summary: "Take a snapshot of a running sandbox",
        body: Some("SnapshotRequest"),
        query: &[],
        access: Access::Key,
        success: &[(201, Shape::One("SnapshotInfo"))],
        refusals: &[400, 404, 409, 503],
        handler: || post(handlers::take),
    },
    Route {
        method: "GET",
        path: "/snapshots",
        summary: "List snapshots by page",
        body: None,
        query: &["sandboxID", "name", "limit", "nextToken"],
        access: Access::Key,
        success: &[(200, Shape::Many("SnapshotInfo"))],
        refusals: &[400],
        handler: || get(handlers::list),
    },
    Route {
        method: "DELETE",
        path: "/templates/{templateID}",
        summary: "Delete a snapshot",
        body: None,
        query: &[],
        access: Access::Key,
        success: &[(204, Shape::Empty)],
        refusals: &[400, 404, 501],
        handler: || delete(handlers::remove),
    },
];

#[cfg(test)]
mod tests;
