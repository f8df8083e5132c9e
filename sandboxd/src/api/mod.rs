//! The control API: E2B's REST interface.
//!
//! ```text
//!   request ─► request id, CORS, counting ─► route ─► API key ─► handler ─► manager
//!                                             └ no route: 404   └ 401      └ every refusal is a row of [`error`]
//! ```
//!
//! Each resource is a folder with the same files: `mod.rs` (its routes), `wire.rs` (bodies and queries, and the pure
//! rules about them), `handlers.rs` (from request to answer) and `tests.rs`; what their members share is in [`fields`]. The
//! routes of all resources form one table ([`routes`]), from which both the router and the OpenAPI document are made.

pub mod auth;
mod checkpoints;
pub mod error;
mod extract;
mod fields;
mod forks;
mod lifetime;
mod listing;
mod logs;
mod metrics;
mod network;
mod openapi;
mod pausing;
mod refused;
pub mod routes;
mod sandboxes;
mod service;
mod snapshot;
mod templates;
mod timing;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::{HeaderName, HeaderValue};
use tower_http::cors::{Any, CorsLayer};
use tracing::Instrument;

use crate::egress::Verdict;
use crate::lifecycle::manager::Manager;
use crate::services::Services;
use crate::templates::Templates;
use error::ApiError;
use routes::Access;

/// Names one request in logs and answers.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the API works with.
pub struct Shared {
    /// The sandboxes.
    pub manager: Arc<Manager>,
    /// The templates.
    pub templates: Arc<Templates>,
    /// The API keys.
    pub keys: auth::KeyRing,
    /// Domain under which sandboxes are reached (E2B: `domain`), if it is not the client's default.
    pub domain: Option<String>,
    /// What sandboxes may reach when a request does not say.
    pub default_egress: Verdict,
    /// Internal services that a request may name.
    pub services: Services,
}

/// A handle to [`Shared`].
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl App {
    /// A handle.
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The router of the whole API.
pub fn router(app: App) -> Router {
    let require_key = from_fn_with_state(app.clone(), auth::require);
    let mut router = Router::new();
    for route in routes::all() {
        let methods = (route.handler)();
        let methods = match route.access {
            Access::Key => methods.route_layer(require_key.clone()),
            Access::Open => methods,
        };
        router = router.route(route.path, methods);
    }
    router
        .fallback(async |request: Request| ApiError::NoRoute(target(&request)))
        .method_not_allowed_fallback(async |request: Request| ApiError::Method(target(&request)))
        .layer(from_fn_with_state(app.clone(), count))
        .layer(cors())
        .layer(from_fn(trace))
        .with_state(app)
}

/// Method and path of a request, short enough for a message.
fn target(request: &Request) -> String {
    let text = format!("{} {}", request.method(), request.uri().path());
    text.chars().take(200).collect()
}

fn cors() -> CorsLayer {
    let exposed = [
        "x-next-token",
        "x-total-running",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "retry-after",
        "should-retry",
        "server-timing",
        "x-request-id",
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers(Any)
        .expose_headers(exposed.map(HeaderName::from_static))
}

async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    app.manager.telemetry().responded(response.status());
    response
}

/// Gives each request an id and a span.
async fn trace(request: Request, next: Next) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let span = tracing::info_span!("api", request = %id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = std::time::Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.in_scope(|| tracing::debug!(%method, path, status, took = ?began.elapsed(), "answered"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// An answer without a body.
fn no_content() -> Response {
    http::StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
pub mod tests;
