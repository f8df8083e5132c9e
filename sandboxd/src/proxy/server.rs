//! The listening socket: HTTP/1.1 and HTTP/2 without TLS on one port, each request to the API or to a sandbox.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::forward::Forwarder;
use super::reply::Reply;
use super::rest::{Rest, announce};
use super::route::{Route, route};

/// How long a client may take for its request's head, idle time between requests included: longer than the five
/// minutes for which the SDKs keep connections.
const HEAD_TIMEOUT: Duration = Duration::from_secs(610);

/// Streams per HTTP/2 connection.
const STREAMS: u32 = 256;

/// Flow-control window of one HTTP/2 stream in bytes, and of a connection: what may be under way unread.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How long open connections may go on once the server stops.
const GRACE: Duration = Duration::from_secs(3);

/// Answers requests.
#[derive(Clone)]
pub struct Service {
    /// The API.
    pub api: Router,
    /// The way to sandboxes.
    pub forwarder: Forwarder,
}

impl Service {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let version = request.version();
        if version == Version::HTTP_2 {
            return self.route(request.map(Rest::unguarded), peer).await;
        }
        let declared = request.body().size_hint();
        let mut response = self.route(request.map(Rest::new), peer).await;
        announce(&declared, version, &mut response);
        response
    }

    async fn route(&self, request: Request<Rest>, peer: SocketAddr) -> Response<Body> {
        match route(request.method(), request.uri(), request.headers()) {
            Ok(Route::Api) => {
                let answered = self.api.clone().oneshot(request.map(Body::new)).await;
                answered.unwrap_or_else(|never| match never {})
            }
            Ok(Route::Sandbox(target)) => self.forwarder.answer(target, request, peer.ip()).await,
            Ok(Route::Signed) => self.forwarder.answer_signed(request, peer.ip()).await,
            Err(error) => {
                let reply = Reply::from(error);
                self.forwarder.refuse(&reply, request.headers())
            }
        }
    }
}

/// Serves until `stop` is cancelled, then lets open requests come to their end for a moment.
pub async fn serve(listener: TcpListener, service: Service, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, service.clone());
                let watched = graceful.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = watched.await {
                        tracing::debug!(%peer, error, "a connection failed");
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, or the client is gone already: a pause keeps this from spinning.
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: Service,
) -> impl hyper_util::server::graceful::GracefulConnection<
    Error = Box<dyn std::error::Error + Send + Sync>,
> + Send
+ 'static {
    // Small writes of a stream go out at once.
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .preserve_header_case(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, std::convert::Infallible>(service.answer(request, peer).await) }
    });
    builder
        .serve_connection_with_upgrades(TokioIo::new(stream), answer)
        .into_owned()
}
