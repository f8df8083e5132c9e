//! The network's edge: takes calls, passes each on once, and puts it on the tape.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::exchange::Seen;
use super::tape::Tape;
use super::upstream::{Upstream, UpstreamError};
use super::{MAX_CONNECTIONS, MAX_PASSED, READ_TIMEOUT};
use crate::fault::Reply;

/// Of one connection only, by RFC 9110.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// A proxy at work; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    tape: Mutex<Tape>,
    connections: Semaphore,
}

impl Proxy {
    /// Begins to pass on calls to `upstream`, and to keep the first `room` of them.
    pub async fn start(
        upstream: Upstream,
        listen: SocketAddr,
        room: usize,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            tape: Mutex::new(Tape::new(room)),
            connections: Semaphore::new(MAX_CONNECTIONS),
        });
        let task = tokio::spawn(accept(Arc::clone(&shared), listener));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// The tape. What is done under its lock does not wait.
    pub fn tape(&self) -> std::sync::MutexGuard<'_, Tape> {
        self.shared
            .tape
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: those in use have to end first.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let Ok(_permit) = shared.connections.try_acquire() else {
                return;
            };
            let _ = stream.set_nodelay(true);
            let handler = service_fn(|request| handle(&shared, request));
            let http = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_TIMEOUT)
                .serve_connection(TokioIo::new(stream), handler);
            // How a client ends its connection is its own business.
            let _ = http.await;
        });
    }
}

async fn handle(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let collected =
        tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_PASSED).collect()).await;
    let problem = |status, title, detail: String| {
        let reply = Reply::problem(status, title, json!({"detail": detail}));
        Ok(crate::server::response(reply.with("connection", "close")))
    };
    let body = match collected {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            return problem(
                413,
                "Content Too Large",
                format!("more than {MAX_PASSED} bytes"),
            );
        }
        Err(_) => return problem(408, "Request Timeout", "no whole body".into()),
    };
    let (reply, body) = match pass_on(shared, &parts, body).await {
        Ok(passed) => passed,
        Err(error) => return problem(502, "Bad Gateway", error.to_string()),
    };
    let seen = Seen {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or(""),
        asked: &parts.headers,
        status: reply.status.as_u16(),
        headers: &reply.headers,
        body: &body,
    };
    shared
        .tape
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(&seen);
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = reply.status;
    *response.headers_mut() = end_to_end(reply.headers);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    Ok(response)
}

async fn pass_on(
    shared: &Shared,
    parts: &http::request::Parts,
    body: Bytes,
) -> Result<(http::response::Parts, Bytes), UpstreamError> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = parts.method.clone();
    // Whatever host a client names, calls go to the one that was named at start.
    *request.uri_mut() = parts
        .uri
        .path_and_query()
        .cloned()
        .map_or_else(|| Uri::from_static("/"), Uri::from);
    let mut headers = end_to_end(parts.headers.clone());
    // What comes back has to be read here.
    headers.remove(header::ACCEPT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::EXPECT);
    if let Ok(host) = HeaderValue::try_from(shared.upstream.authority()) {
        headers.insert(header::HOST, host);
    }
    *request.headers_mut() = headers;
    shared.upstream.call(request).await
}

/// Headers without those that are of one connection, by name or because `connection` lists them.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers
}
