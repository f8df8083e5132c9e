//! Templates, read only: they are built by `cargo xtask setup`.

mod handlers;
pub mod wire;

use axum::routing::get;

use super::routes::{Access, Route, Shape};

/// The routes of this resource.
pub const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/v2/templates",
        summary: "List templates",
        body: None,
        query: &["teamID", "limit", "nextToken"],
        access: Access::Key,
        success: &[(200, Shape::Many("TemplateInfo"))],
        refusals: &[400],
        handler: || get(handlers::page),
    },
    Route {
        method: "GET",
        path: "/templates",
        summary: "List templates (first version)",
        body: None,
        query: &["teamID"],
        access: Access::Key,
        success: &[(200, Shape::Many("TemplateInfo"))],
        refusals: &[400],
        handler: || get(handlers::list),
    },
    Route {
        method: "GET",
        path: "/templates/{templateID}",
        summary: "Show a template with its builds",
        body: None,
        query: &["limit", "nextToken"],
        access: Access::Key,
        success: &[(200, Shape::One("TemplateDetail"))],
        refusals: &[400, 404],
        handler: || get(handlers::show),
    },
    Route {
        method: "GET",
        path: "/templates/aliases/{alias}",
        summary: "Look a template up by its alias",
        body: None,
        query: &[],
        access: Access::Key,
        success: &[(200, Shape::One("TemplateAlias"))],
        refusals: &[400, 404],
        handler: || get(handlers::alias),
    },
];

#[cfg(test)]
mod tests;
