//! Checkpoints and rollback: a running sandbox goes back, in place, to what it was. E2B has nothing like it.
//!
//! | call | answer |
//! |---|---|
//! | `POST …/checkpoints {"name"}` | 201; memory and disk are written down, the sandbox goes on; 409 when the name is taken |
//! | `GET …/checkpoints` | 200, oldest first |
//! | `DELETE …/checkpoints/{name}` | 204 |
//! | `POST …/rollback {"checkpoint"}` | 204 once it serves again; id, tokens, environment and deadline stay |
//!
//! A rollback cuts all open streams: what they would have told is of a future that is not going to be. Requests that come
//! while it goes on wait for its end. Every checkpoint stays usable after a rollback, the ones taken later included. They
//! go with their sandbox; a pause keeps them.
//!
//! `autoCheckpoint` of a create takes one before every so many commands (`process.Process/Start` and the code
//! interpreter's `/execute`), named `auto-1`, `auto-2` and so on, of which the newest few are kept.

mod handlers;
pub mod wire;

use axum::routing::{delete, get, post};

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: "/sandboxes/{sandboxID}/checkpoints",
        summary: "Take a checkpoint of a running sandbox",
        body: Some("CheckpointRequest"),
        query: &[],
        access: Access::Key,
        success: &[(201, Shape::One("Checkpoint"))],
        refusals: &[400, 404, 409, 503],
        handler: || post(handlers::take),
    },
    Route {
        method: "GET",
        path: "/sandboxes/{sandboxID}/checkpoints",
        summary: "List the checkpoints of a sandbox",
        body: None,
        query: &[],
        access: Access::Key,
        success: &[(200, Shape::Many("Checkpoint"))],
        refusals: &[404],
        handler: || get(handlers::list),
    },
    Route {
        method: "DELETE",
        path: "/sandboxes/{sandboxID}/checkpoints/{checkpoint}",
        summary: "Delete a checkpoint",
        body: None,
        query: &[],
        access: Access::Key,
        success: &[(204, Shape::Empty)],
        refusals: &[404],
        handler: || delete(handlers::remove),
    },
    Route {
        method: "POST",
        path: "/sandboxes/{sandboxID}/rollback",
        summary: "Take a running sandbox back to a checkpoint, in place",
        body: Some("RollbackRequest"),
        query: &[],
        access: Access::Key,
        success: &[(204, Shape::Empty)],
        refusals: &[400, 404, 409],
        handler: || post(handlers::roll_back),
    },
];

#[cfg(test)]
mod tests;
