//! Traffic to sandboxes: routing, refusals, and what is changed on the way.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use serde_json::{Value, json};

use crate::agent;
use crate::interpreter;
use crate::life::{self, Woken};
use crate::reply::{bare, decoded, header};
use crate::service;
use crate::tree::clean;
use crate::world::{Sandbox, World, lock};

/// The agent's port.
const AGENT: u16 = 49_983;

/// Whether a host name's first label is `port-…`.
pub fn looks_like_sandbox(host: &str) -> bool {
    let label = host.split('.').next().unwrap_or("");
    host.contains('.')
        && label.split_once('-').is_some_and(|(port, _)| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        })
}

enum Route {
    To { id: String, port: u16 },
    Wrong(&'static str),
}

fn route(w: &World, request: &Request, host: &str) -> Route {
    let headers = request.headers();
    let (id, port) = match (
        header(headers, "e2b-sandbox-id"),
        header(headers, "e2b-sandbox-port"),
    ) {
        (Some(_), Some(_)) if w.on("header-routing-off") => return Route::Wrong("no such host"),
        (Some(id), Some(port)) => (id.to_owned(), port.to_owned()),
        (Some(id), None) if w.on("lone-id-accepted") => (id.to_owned(), AGENT.to_string()),
        (None, None) if w.on("host-routing-off") => return Route::Wrong("no such host"),
        (None, None) => {
            let label = host.split('.').next().unwrap_or("");
            let parts: Vec<&str> = label.split('-').collect();
            match parts.as_slice() {
                [_, _, _, ..] if w.on("host-suffix-refused") => {
                    return Route::Wrong("host is not valid");
                }
                [port, id, ..] => ((*id).to_owned(), (*port).to_owned()),
                _ => return Route::Wrong("host is not valid"),
            }
        }
        _ => return Route::Wrong("one routing header without the other"),
    };
    let routable = !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if port > 0 && (routable || w.on("bad-id-accepted")) => Route::To { id, port },
        _ if w.on("bad-port-502") && port.parse::<u16>().is_err() => Route::To { id, port: 1 },
        _ => Route::Wrong("sandbox or port is not valid"),
    }
}

pub async fn answer(w: Arc<World>, mut request: Request, host: &str) -> Response {
    let (id, port) = match route(&w, &request, host) {
        Route::Wrong(why) => return bare(400, "text/plain", why),
        Route::To { id, port } => (id, port),
    };
    let programmatic = !header(request.headers(), "user-agent")
        .unwrap_or("")
        .starts_with("Mozilla/")
        || header(request.headers(), "accept")
            .unwrap_or("")
            .contains("json")
        || header(request.headers(), "sec-fetch-mode") == Some("cors");
    let page = !programmatic && !w.on("no-page-for-browsers");
    let unreached = |w: &World| {
        let message = if w.on("dead-sandbox-words") {
            "No such sandbox"
        } else {
            "The sandbox was not found"
        };
        let code = if w.on("dead-sandbox-404") { 404 } else { 502 };
        refused(
            w,
            page,
            code,
            json!({ "sandboxId": id, "message": message, "code": code }),
        )
    };
    let Some(sandbox) = found(&w, &id) else {
        return unreached(&w);
    };
    if sandbox.life.is_paused() {
        if let Some(message) = may_not_wake(&w, &sandbox, &request, port) {
            let body = json!({ "sandboxId": id, "message": message, "code": 403 });
            return refused(&w, page, 403, body);
        }
        if matches!(life::wake(&w, &sandbox, port == AGENT), Woken::Sleeps) {
            return unreached(&w);
        }
    }
    if port == AGENT {
        let path = if w.on("init-encoded-public") {
            request.uri().path().to_owned()
        } else {
            clean(&decoded(request.uri().path(), false))
        };
        let path = path.as_str();
        let internal = [
            "/init",
            "/freeze",
            "/unfreeze",
            "/fsfreeze",
            "/fsthaw",
            "/collapse",
            "/upgrade",
        ];
        if internal.contains(&path) && !w.on("init-public") {
            let body = json!({ "message": "not found", "path": path, "code": 404 });
            return refused(&w, page, 404, body);
        }
        return agent::answer(&w, &sandbox, request).await;
    }
    if let Some(token) = sandbox
        .traffic_token
        .as_deref()
        .filter(|_| !w.on("traffic-open"))
    {
        let given = header(request.headers(), "e2b-traffic-access-token");
        let wrong = if given.is_some() {
            "invalid"
        } else {
            "missing"
        };
        let right = given == Some(token) || (w.on("any-traffic-token") && given.is_some());
        if !right {
            let message = if w.on("traffic-refusal-words") {
                "forbidden".to_owned()
            } else {
                format!("The header e2b-traffic-access-token is {wrong}")
            };
            let body = json!({ "sandboxId": id, "message": message, "code": 403 });
            return refused(&w, page, 403, body);
        }
    }
    if port == interpreter::PORT && sandbox.template == interpreter::TEMPLATE {
        return interpreter::answer(&w, &sandbox, request).await;
    }
    if !listens(&w, &sandbox, port).await {
        let message = if w.on("closed-port-words") {
            "Connection refused"
        } else {
            "The sandbox is running but port is not open"
        };
        let mut body = json!({ "sandboxId": id, "message": message, "port": port, "code": 502 });
        if w.on("closed-port-omits-port") {
            body = json!({ "sandboxId": id, "message": message, "code": 502 });
        }
        let code = if w.on("closed-port-504") { 504 } else { 502 };
        return refused(&w, page, code, body);
    }
    if let Some(mask) = sandbox
        .mask_host
        .as_deref()
        .filter(|_| !w.on("mask-ignored"))
    {
        let masked = mask.replace("${PORT}", &port.to_string());
        let before = HeaderValue::from_str(host)
            .ok()
            .filter(|_| !w.on("mask-hides-original"));
        if let Some(before) = before {
            request.headers_mut().insert("x-forwarded-host", before);
        }
        if let Ok(masked) = HeaderValue::from_str(&masked) {
            request.headers_mut().insert("host", masked);
        }
    }
    service::answer(&w, &sandbox, request).await
}

/// Why this request may not wake the sandbox that it would wake.
fn may_not_wake(w: &World, sandbox: &Sandbox, request: &Request, port: u16) -> Option<String> {
    if !sandbox.life.auto_resume() {
        return None;
    }
    let (name, token, open) = if port == AGENT {
        ("x-access-token", &sandbox.token, w.on("wake-any-token"))
    } else {
        let open = w.on("wake-traffic-open");
        ("e2b-traffic-access-token", &sandbox.traffic_token, open)
    };
    let token = token.as_deref().filter(|_| !open)?;
    let right = header(request.headers(), name) == Some(token);
    (!right).then(|| format!("The header {name} is missing or invalid"))
}

fn found(w: &World, id: &str) -> Option<Arc<Sandbox>> {
    w.find(id).or_else(|| {
        // A sandbox that was killed in the API and yet is reached.
        let any = w.on("any-sandbox-answers");
        any.then(|| lock(&w.sandboxes).values().next().map(Arc::clone))
            .flatten()
    })
}

/// A server that is just starting is waited for.
async fn listens(w: &World, sandbox: &Sandbox, port: u16) -> bool {
    let tries = if w.on("no-port-retry") { 1 } else { 10 };
    for attempt in 0..tries {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if let Some(service) = lock(&sandbox.services).get(&port) {
            return !(service.loopback && w.on("loopback-unreachable"));
        }
    }
    false
}

fn refused(w: &World, page: bool, code: u16, body: Value) -> Response {
    if page {
        let text = body["message"].as_str().unwrap_or("");
        return bare(
            code,
            "text/html; charset=utf-8",
            format!("<html><body>{text}</body></html>"),
        );
    }
    if w.on("proxy-errors-as-text") {
        return bare(
            code,
            "text/plain",
            body["message"].as_str().unwrap_or("").to_owned(),
        );
    }
    bare(code, "application/json; charset=utf-8", body.to_string())
}
