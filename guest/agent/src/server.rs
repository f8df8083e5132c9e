//! The HTTP services: which path goes where, and the connection loop.
//!
//! | path | token | configured | served by |
//! |---|---|---|---|
//! | `GET /health` | – | – | [`endpoints::health`] |
//! | `POST /init` | own rule | yes | [`endpoints::init`] |
//! | `/files…` | own rules (signatures) | yes | [`crate::files`] |
//! | `GET /metrics`, `GET /envs` | yes | yes | [`endpoints`] |
//! | `/process.Process/…`, `/filesystem.Filesystem/…` | yes | yes | Connect services |
//! | anything else | – | – | 404 |
//!
//! Every connection may speak HTTP/1.1 or h2c; which one is seen from its first bytes. There are no time-outs on idle
//! connections: the daemon's proxy owns those, and an idle agent must not wake up.

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::routing::{any_service, get, post};
use axum::{Router, extract::Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::agent::Agent;
use crate::auth::{require_configured, require_token};
use crate::errors::Fault;
use crate::process::service::ProcessService;
use crate::proto::process::ProcessExt;
use crate::{endpoints, files, filesystem, rpc};

/// Streams that one HTTP/2 connection may have open at once: each followed command is one.
const MAX_HTTP2_STREAMS: u32 = 1024;

/// Flow-control window of one HTTP/2 stream in bytes: uploads should not wait for the round trip.
const HTTP2_STREAM_WINDOW: u32 = 1 << 20;

/// Flow-control window of a whole HTTP/2 connection in bytes.
const HTTP2_CONNECTION_WINDOW: u32 = 4 << 20;

/// Routes of port 49983.
pub fn envd(agent: &Arc<Agent>) -> Router {
    let state = agent.state.clone();
    let process = ProcessService::new(state.clone(), Arc::clone(&agent.processes));
    let connect = filesystem::register(state.clone(), process.register(connectrpc::Router::new()));
    let connect = rpc::into_service(connect);

    let guarded = Router::new()
        .route("/metrics", get(endpoints::metrics::get))
        .route("/envs", get(endpoints::envs::get))
        .route("/process.Process/{method}", any_service(connect.clone()))
        .route("/filesystem.Filesystem/{method}", any_service(connect))
        .layer(from_fn_with_state(state.clone(), require_token))
        .route("/init", post(endpoints::init::post))
        .with_state(Arc::clone(agent));
    guarded
        .merge(files::router(state.clone()))
        .layer(from_fn_with_state(state, require_configured))
        .route("/health", get(endpoints::health::get))
        .fallback(not_found)
        .layer(cors())
}

async fn not_found(request: Request) -> Fault {
    let path: String = request.uri().path().chars().take(200).collect();
    Fault::not_found(format!("There is nothing at {path}."))
}

/// Browsers may call from any page: what protects a sandbox is its token, not the page's origin.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        // Mirrored, since a wildcard does not cover `Authorization` (Fetch standard, 4.10).
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
        .max_age(std::time::Duration::from_secs(7200))
}

/// Serves one connection until it ends.
pub async fn serve<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW);
    let service = TowerToHyperService::new(router);
    let served = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        // The peer's doing as a rule: a cut connection, garbage instead of HTTP.
        tracing::debug!(%error, "connection ended");
    }
}
