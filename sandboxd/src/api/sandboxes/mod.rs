//! Sandboxes one by one: create (v1 and v2), show, kill.
//!
//! The two creates take the same members and differ in what absent ones mean: v1 gives 15 seconds and no token, v2
//! gives 300 seconds and is always secured. An option that is known but not supported is refused by its name, unless
//! its value is the one that means "off".

pub mod handlers;
pub mod wire;

use axum::routing::{get, post};

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: "/v2/sandboxes",
        summary: "Create a sandbox",
        body: Some("CreateRequest"),
        query: &[],
        access: Access::Key,
        success: &[(201, Shape::One("Sandbox"))],
        refusals: &[400, 404, 409, 413, 422, 429, 503, 504],
        handler: || post(handlers::create_v2),
    },
    Route {
        method: "POST",
        path: "/sandboxes",
        summary: "Create a sandbox (defaults of the first version)",
        body: Some("CreateRequest"),
        query: &[],
        access: Access::Key,
        success: &[(201, Shape::One("Sandbox"))],
        refusals: &[400, 404, 413, 429, 503, 504],
        handler: || post(handlers::create_v1),
    },
    Route {
        method: "GET",
        path: "/sandboxes/{sandboxID}",
        summary: "Show a sandbox",
        body: None,
        query: &[],
        access: Access::Key,
        success: &[(200, Shape::One("SandboxDetail"))],
        refusals: &[404],
        handler: || get(handlers::show),
    },
    Route {
        method: "DELETE",
        path: "/sandboxes/{sandboxID}",
        summary: "Kill a sandbox",
        body: None,
        query: &[],
        access: Access::Key,
        success: &[(204, Shape::Empty)],
        refusals: &[404],
        handler: || axum::routing::delete(handlers::kill),
    },
];

#[cfg(test)]
mod tests;
