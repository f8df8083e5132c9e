//! One HTTP/1.1 exchange per connection. No pool: a check's evidence is all that went over its connections, and a server
//! that breaks one connection disturbs no other check.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::reply::Reply;
use super::request::{Framing, Request};

/// Bodies beyond this are not read further, whatever a target sends.
pub const MAX_BODY: usize = 64 * 1024 * 1024;

/// Why there was no reply.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The suite built a request that cannot be sent; its own mistake.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] http::Error),
    /// The address is none.
    #[error("`{0}` is not an http:// or https:// address")]
    Address(String),
    /// No connection.
    #[error("no connection to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A connection, but no TLS on it: another certificate, or none.
    #[error("no TLS with {address}: {source}")]
    Tls {
        /// Whom with.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("the connection failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The body is larger than is reasonable.
    #[error("the body is larger than {MAX_BODY} bytes")]
    Large,
}

impl HttpError {
    /// Whether the suite is to blame, not the target.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Request(_) | Self::Address(_))
    }
}

/// Head of a reply whose body is still coming.
#[derive(Debug)]
pub struct Opened {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Incoming,
    /// When the request was sent.
    pub since: Instant,
}

impl Opened {
    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// When the connection breaks or nothing comes in time.
    pub async fn piece(&mut self, limit: Duration) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = tokio::time::timeout(limit, self.body.frame())
                .await
                .map_err(|_| HttpError::Late(limit))?;
            match frame {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Sends a request and reads the reply to its end.
///
/// # Errors
/// See [`HttpError`].
pub async fn exchange(request: &Request) -> Result<Reply, HttpError> {
    let whole = async {
        let mut opened = open(request).await?;
        let mut body = BytesMut::new();
        while let Some(piece) = opened.piece(request.limit).await? {
            if body.len() + piece.len() > MAX_BODY {
                return Err(HttpError::Large);
            }
            body.extend_from_slice(&piece);
        }
        Ok(Reply {
            status: opened.status,
            headers: opened.headers,
            body: body.freeze(),
        })
    };
    tokio::time::timeout(request.limit, whole)
        .await
        .map_err(|_| HttpError::Late(request.limit))?
}

/// Sends a request and reads the reply's head. Dropping what comes back closes the connection.
///
/// # Errors
/// See [`HttpError`].
pub async fn open(request: &Request) -> Result<Opened, HttpError> {
    tokio::time::timeout(request.limit, opened(request))
        .await
        .map_err(|_| HttpError::Late(request.limit))?
}

async fn opened(request: &Request) -> Result<Opened, HttpError> {
    let since = Instant::now();
    let (stream, authority) = request.way.dial(&request.origin).await?;
    let ready = built(request, authority)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await?;
    // Ends with the reply's body, or when the reply is dropped.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let reply = sender.send_request(ready).await?;
    let (head, body) = reply.into_parts();
    Ok(Opened {
        status: head.status,
        headers: head.headers,
        body,
        since,
    })
}

/// Sends a request that asks for another protocol, and reads the reply's head. Gives the connection where it was agreed.
///
/// # Errors
/// See [`HttpError`].
pub async fn upgrade(request: &Request) -> Result<(Reply, Option<Upgraded>), HttpError> {
    let whole = async {
        let (stream, authority) = request.way.dial(&request.origin).await?;
        let ready = built(request, authority)?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        let mut reply = sender.send_request(ready).await?;
        let upgraded = if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
            Some(hyper::upgrade::on(&mut reply).await?)
        } else {
            None
        };
        let (head, body) = reply.into_parts();
        let body = match upgraded {
            Some(_) => Bytes::new(),
            None => Limited::new(body, MAX_BODY)
                .collect()
                .await
                .map_err(|_| HttpError::Large)?
                .to_bytes(),
        };
        let reply = Reply {
            status: head.status,
            headers: head.headers,
            body,
        };
        Ok((reply, upgraded))
    };
    tokio::time::timeout(request.limit, whole)
        .await
        .map_err(|_| HttpError::Late(request.limit))?
}

type Body = BoxBody<Bytes, std::convert::Infallible>;

fn built(request: &Request, authority: String) -> Result<http::Request<Body>, HttpError> {
    let host = request.host.clone().unwrap_or(authority);
    let mut builder = http::Request::builder()
        .method(request.method.clone())
        .uri(request.path.as_str())
        .header("host", host);
    for (name, value) in &request.headers {
        builder = builder.header(name.as_str(), value.as_str());
    }
    let body = match request.framing {
        Framing::Length => Full::new(request.body.clone()).boxed(),
        Framing::Chunked => {
            let frames: Vec<_> = request
                .body
                .chunks(16 * 1024)
                .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
                .collect();
            BodyExt::boxed(StreamBody::new(stream::iter(frames)))
        }
    };
    Ok(builder.body(body)?)
}
