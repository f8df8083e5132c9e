//! One HTTP/2 exchange on a connection without TLS, begun by prior knowledge.

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::http1::{HttpError, MAX_BODY};
use super::reply::Reply;
use super::request::Request;

/// Sends a request and reads the reply to its end. `Host` becomes the authority.
///
/// # Errors
/// See [`HttpError`].
pub async fn exchange(request: &Request) -> Result<Reply, HttpError> {
    tokio::time::timeout(request.limit, exchanged(request))
        .await
        .map_err(|_| HttpError::Late(request.limit))?
}

async fn exchanged(request: &Request) -> Result<Reply, HttpError> {
    let (stream, authority) = request.way.dial(&request.origin).await?;
    let host = request.host.clone().unwrap_or(authority);
    let uri = Uri::builder()
        .scheme("http")
        .authority(host)
        .path_and_query(request.path.as_str())
        .build()?;
    let mut builder = http::Request::builder()
        .method(request.method.clone())
        .uri(uri);
    for (name, value) in &request.headers {
        builder = builder.header(name.as_str(), value.as_str());
    }
    let ready = builder.body(Full::new(request.body.clone()))?;
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let (head, body) = sender.send_request(ready).await?.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    Ok(Reply {
        status: head.status,
        headers: head.headers,
        body: body.map_err(|_| HttpError::Large)?.to_bytes(),
    })
}
