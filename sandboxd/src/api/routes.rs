//! The table of all routes.

use axum::routing::MethodRouter;

use super::App;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Open,
    /// Whoever has an API key.
    Key,
}

/// Body of an answer, for the OpenAPI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// None.
    Empty,
    /// An object of this schema.
    One(&'static str),
    /// An array of this schema.
    Many(&'static str),
    /// Text.
    Text,
}

/// One route.
#[derive(Clone, Copy)]
pub struct Route {
    /// HTTP method.
    pub method: &'static str,
    /// Path, with `{name}` for one segment.
    pub path: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// Schema of its request body.
    pub body: Option<&'static str>,
    /// Query parameters.
    pub query: &'static [&'static str],
    /// Who may call it.
    pub access: Access,
    /// Answers on success.
    pub success: &'static [(u16, Shape)],
    /// Statuses of its refusals, beside 401 and 500.
    pub refusals: &'static [u16],
    /// Its handler.
    pub handler: fn() -> MethodRouter<App>,
}

/// All routes, resource by resource.
pub fn all() -> impl Iterator<Item = &'static Route> {
    [
        super::service::ROUTES,
        super::sandboxes::ROUTES,
        super::listing::ROUTES,
        super::lifetime::ROUTES,
        super::pausing::ROUTES,
        super::snapshot::ROUTES,
        super::forks::ROUTES,
        super::checkpoints::ROUTES,
        super::network::ROUTES,
        super::metrics::ROUTES,
        super::logs::ROUTES,
        super::templates::ROUTES,
        super::refused::ROUTES,
    ]
    .into_iter()
    .flatten()
}
