//! The suite's echo server, as a process in a sandbox would be it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::request::Parts;
use serde_json::{Value, json};

use crate::reply::{bare, status, with};
use crate::world::{Sandbox, World};

/// The line by which the shell knows the script.
pub const MARK: &str = "e2b-conformance echo server";

/// A port that is listened on.
#[derive(Debug)]
pub struct Service {
    /// Only on the sandbox's loopback address.
    pub loopback: bool,
}

pub async fn answer(w: &World, sandbox: &Arc<Sandbox>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    if head.headers.contains_key("upgrade") && !w.on("websocket-refused") {
        return socket(w, &mut head).await;
    }
    let path = head.uri.path().to_owned();
    if path == "/stream" || path == "/endless" {
        return streamed(w, sandbox, path == "/endless");
    }
    let body = to_bytes(body, 16 * 1024 * 1024).await.unwrap_or_default();
    let headers: serde_json::Map<String, Value> = head
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                json!(String::from_utf8_lossy(value.as_bytes())),
            )
        })
        .filter(|(name, _)| !(name == "x-probe" && w.on("proxy-drops-headers")))
        .collect();
    let target = head
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let shown = if w.on("proxy-drops-query") {
        head.uri.path()
    } else {
        target
    };
    let method = if w.on("proxy-method-post") {
        "POST"
    } else {
        head.method.as_str()
    };
    let text: String = if w.on("proxy-drops-body") {
        String::new()
    } else {
        body.iter().map(|byte| char::from(*byte)).collect()
    };
    let echo = json!({ "method": method, "path": shown, "headers": headers, "body": text });
    let code = path
        .strip_prefix("/status/")
        .and_then(|code| code.parse().ok())
        .unwrap_or(200);
    let mut response = bare(code, "application/json", echo.to_string());
    if w.on("proxy-status-200") {
        *response.status_mut() = status(200);
    }
    if w.on("proxy-drops-response-headers") {
        return response;
    }
    with(response, "x-conformance", "echo")
}

/// A WebSocket that says what it is told.
async fn socket(w: &World, head: &mut Parts) -> Response {
    let silent = w.on("websocket-silent");
    match WebSocketUpgrade::from_request_parts(head, &()).await {
        Err(refusal) => refusal.into_response(),
        Ok(upgrade) => upgrade.on_upgrade(move |mut socket: WebSocket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if !silent && socket.send(message).await.is_err() {
                    return;
                }
            }
        }),
    }
}

/// A body that ends with an error when its sandbox dies, so that the connection is cut.
pub fn until_death(
    w: &World,
    sandbox: &Arc<Sandbox>,
    body: impl stream::Stream<Item = Bytes> + Send + 'static,
) -> Body {
    use futures_util::StreamExt as _;
    let sandbox = Arc::clone(sandbox);
    let cleanly = w.on("kill-ends-streams-cleanly");
    let death = stream::once(async move { sandbox.death().await }).map(|()| None);
    let joined = stream::select(
        body.map(Some)
            .chain(stream::once(async { Some(Bytes::new()) })),
        death,
    );
    // An empty piece stands for the body's own end.
    let ended = joined
        .take_while(|item| {
            let goes_on = item.as_ref().is_none_or(|bytes| !bytes.is_empty());
            async move { goes_on }
        })
        .scan(false, move |over, item| {
            let next = match item {
                _ if *over => None,
                Some(bytes) => Some(Ok(bytes)),
                None if cleanly => None,
                None => {
                    *over = true;
                    Some(Err(std::io::Error::from(
                        std::io::ErrorKind::ConnectionReset,
                    )))
                }
            };
            async move { next }
        });
    Body::from_stream(ended)
}

fn streamed(w: &World, sandbox: &Arc<Sandbox>, endless: bool) -> Response {
    let wait = move |step: u32| async move {
        let pause = if endless { 100 } else { 1_000 };
        if step > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let text = match (step, endless) {
            (0, _) => "one\n",
            (_, true) => "more\n",
            (1, false) => "two\n",
            _ => return None,
        };
        Some((Bytes::from_static(text.as_bytes()), step + 1))
    };
    if w.on("proxy-buffers") && !endless {
        let late = async {
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            Ok::<_, Infallible>(Bytes::from_static(b"one\ntwo\n"))
        };
        return bare(200, "text/plain", Body::from_stream(stream::once(late)));
    }
    bare(
        200,
        "text/plain",
        until_death(w, sandbox, stream::unfold(0, wait)),
    )
}
