//! The control API.

mod create;
mod fork;
mod life;
mod list;
pub mod logs;
mod metrics;
mod network;
mod pause;
mod secrets;
mod shape;
mod snapshots;
pub mod templates;
mod volumes;

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use http::Method;
use serde_json::Value;

use crate::KEY;
use crate::reply::{bare, coded, empty, error, header};
use crate::world::{World, lock};

/// Largest body.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// What a handler gets.
pub struct Call {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Call {
    /// The body as a JSON object; nothing is an empty one.
    fn object(&self, w: &World) -> Result<Value, Response> {
        if self.body.is_empty() {
            return Ok(serde_json::json!({}));
        }
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(value) if value.is_object() => Ok(value),
            Ok(_) if w.on("array-body-500") => Err(error(w, 500, "internal server error")),
            Err(_) if w.on("malformed-json-500") => Err(error(w, 500, "internal server error")),
            _ => Err(error(w, 400, "the body is not a JSON object")),
        }
    }
}

pub async fn answer(w: &Arc<World>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let chunked = head.headers.contains_key("transfer-encoding");
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return error(w, 413, "the body is too large");
    };
    if chunked && w.on("chunked-refused") {
        return error(w, 411, "length required");
    }
    let call = Call {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or("").to_owned(),
        headers: head.headers,
        body: body.to_vec(),
    };
    if call.path == "/health" && !w.on("health-needs-key") {
        return if w.on("health-503") {
            empty(503)
        } else {
            bare(200, "text/plain", "OK")
        };
    }
    match authorized(w, &call) {
        Some(refusal) => refusal,
        None => match header(&call.headers, "idempotency-key").map(str::to_owned) {
            Some(key) if call.path == "/v2/sandboxes" => keyed(w, &call, &key).await,
            _ => routed(w, &call),
        },
    }
}

/// A create with an idempotency key: it takes its time, and a second one meanwhile is refused.
async fn keyed(w: &Arc<World>, call: &Call, key: &str) -> Response {
    let first = lock(&w.under_way).insert(key.to_owned());
    if !first && !w.on("idempotency-doubles") {
        let word = if w.on("idempotency-in-progress-word") {
            "internal_server_error"
        } else {
            "idempotency_in_progress"
        };
        return coded(w, 409, "a create with this key is under way", Some(word));
    }
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    let response = routed(w, call);
    lock(&w.under_way).remove(key);
    response
}

fn authorized(w: &World, call: &Call) -> Option<Response> {
    let key = header(&call.headers, "x-api-key");
    let open = (w.on("open-without-key") && key.is_none())
        || (w.on("any-key-accepted") && key.is_some_and(|key| !key.is_empty()))
        || (w.on("empty-key-accepted") && key == Some(""))
        || (w.on("key-prefix-accepted")
            && key.is_some_and(|key| !key.is_empty() && KEY.starts_with(key)))
        || (w.on("timeout-route-open") && call.path.ends_with("/timeout"));
    if open || key == Some(KEY) {
        return None;
    }
    if w.on("key-form-400") && key.is_some_and(|key| !key.starts_with("e2b_")) {
        return Some(error(w, 400, "the API key has another form"));
    }
    if w.on("refusal-of-key-as-text") {
        return Some(bare(401, "text/plain", "unauthorized"));
    }
    if w.on("wrong-key-403") && key.is_some() {
        return Some(error(w, 403, "forbidden"));
    }
    if w.on("key-echoed") {
        return Some(error(
            w,
            401,
            &format!("the key {} is not valid", key.unwrap_or("")),
        ));
    }
    Some(error(w, 401, "the API key is missing or not valid"))
}

fn routed(w: &Arc<World>, call: &Call) -> Response {
    let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
    let method = call.method.as_str();
    let more = templates::answer_to(w, call, &parts)
        .or_else(|| volumes::answer_to(w, call, &parts))
        .or_else(|| secrets::answer_to(w, call, &parts));
    if let Some(response) = more {
        return response;
    }
    match (method, parts.as_slice()) {
        ("POST", ["sandboxes"]) if !w.on("create-v1-missing") => create::v1(w, call),
        ("POST", ["v2", "sandboxes"]) if !w.on("create-v2-missing") => create::v2(w, call),
        ("POST", ["v2", "sandboxes"]) => error(w, 405, "method not allowed"),
        ("GET", ["sandboxes"]) if !w.on("list-v1-missing") => list::v1(w, call),
        ("GET", ["v2", "sandboxes"]) => list::v2(w, call),
        ("GET", ["sandboxes", id]) if *id != "metrics" => life::detail(w, id),
        ("DELETE", ["sandboxes", id]) => life::kill(w, id),
        ("POST", ["sandboxes", id, "timeout"]) => life::timeout(w, call, id),
        ("POST", ["sandboxes", id, "refreshes"]) if !w.on("refresh-missing") => {
            life::refresh(w, call, id)
        }
        ("POST", ["sandboxes", id, "connect"]) if !w.on("connect-v1-missing") => {
            life::connect(w, call, id, true)
        }
        ("POST", ["v2", "sandboxes", id, "connect"]) => life::connect(w, call, id, false),
        ("PUT", ["sandboxes", id, "network"]) => network::update(w, call, id),
        ("POST", ["sandboxes", id, "pause"]) => pause::pause(w, call, id),
        ("POST", ["sandboxes", id, "resume"]) if !w.on("old-resume-missing") => {
            pause::resume(w, call, id)
        }
        ("POST", ["sandboxes", id, "snapshots"]) => snapshots::take(w, call, id),
        ("GET", ["snapshots"]) => snapshots::list(w, call),
        ("DELETE", ["templates", id]) => snapshots::delete_template(w, id),
        ("POST", ["sandboxes", id, "fork"]) => fork::fork(w, call, id),
        ("GET", ["sandboxes", "metrics"]) => metrics::many(w, call),
        ("GET", ["sandboxes", id, "metrics"]) => metrics::one(w, call, id),
        ("GET", ["sandboxes", id, "logs"]) => logs::v1(w, call, id),
        ("GET", ["v2", "sandboxes", id, "logs"]) => logs::v2(w, call, id),
        _ if w.on("unknown-route-html") => bare(404, "text/html", "<h1>404</h1>"),
        _ => error(w, 404, "there is no such route"),
    }
}
