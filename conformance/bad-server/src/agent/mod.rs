//! The agent in a sandbox: who may ask, and where a request goes.

mod compose;
pub mod connect;
mod files;
mod filesystem;
mod probe;
pub mod process;
mod proto;
mod shell;
mod streams;
mod transcode;
pub mod watch;
mod words;

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::reply::{bare, decoded, empty, header, json as answer_json};
use crate::tree::{absolute, clean};
use crate::world::{Sandbox, World, lock};

/// Largest body.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// Who acts.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub home: String,
}

/// A user of the sandbox.
pub fn user(w: &World, name: &str) -> Option<User> {
    match name {
        "root" => Some(User {
            name: "root".to_owned(),
            home: "/root".to_owned(),
        }),
        "" | "user" if w.on("default-user-root") => user(w, "root"),
        "" | "user" => Some(User {
            name: "user".to_owned(),
            home: "/home/user".to_owned(),
        }),
        _ if w.on("unknown-user-accepted") => user(w, "user"),
        _ => None,
    }
}

/// A user of a sandbox whose template may have made more of them; nobody is the template's default user.
pub fn user_of(w: &World, sandbox: &Sandbox, name: &str) -> Option<User> {
    let default = lock(&sandbox.guest.user).clone().unwrap_or_default();
    let name = if name.is_empty() { &default } else { name };
    if lock(&sandbox.guest.users).iter().any(|own| own == name) {
        return Some(User {
            name: name.to_owned(),
            home: format!("/home/{name}"),
        });
    }
    user(w, name)
}

/// A path as clients give it.
pub fn resolved(w: &World, user: &User, path: &str) -> String {
    let home = if w.on("relative-to-root") {
        "/"
    } else {
        &user.home
    };
    let tilde = !w.on("tilde-literal");
    let path = match path.strip_prefix('~') {
        Some("") if tilde => home.to_owned(),
        Some(rest) if tilde && rest.starts_with('/') => format!("{home}{rest}"),
        _ => absolute(home, path),
    };
    clean(&path)
}

pub use files::is_signed;

pub async fn answer(w: &Arc<World>, sandbox: &Arc<Sandbox>, request: Request) -> Response {
    let path = if w.on("init-encoded-public") {
        clean(&decoded(request.uri().path(), false))
    } else {
        request.uri().path().to_owned()
    };
    let method = request.method().as_str().to_owned();
    if path == "/health" && method == "GET" && !w.on("agent-health-needs-token") {
        return if w.on("agent-health-500") {
            empty(500)
        } else {
            empty(204)
        };
    }
    if path == "/files" {
        return files::answer(w, sandbox, request).await;
    }
    if let Some(refusal) = refused(w, sandbox, &request) {
        return refusal;
    }
    match path.as_str() {
        "/health" => return empty(204),
        // Only reached with the fault that makes it public.
        "/init" => return empty(204),
        "/files/compose" if method == "POST" && !w.on("compose-missing") => {
            return compose::answer(w, sandbox, request).await;
        }
        "/envs" => return answer_json(200, &json!(process::globals(w, sandbox))),
        "/metrics" => return answer_json(200, &metrics(w)),
        _ => {}
    }
    let Some(call) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return bare(404, "text/plain", "404 page not found");
    };
    rpc(w, sandbox, call, request).await
}

fn metrics(w: &World) -> Value {
    let mut body = json!({
        "ts": jiff::Timestamp::now().as_second(), "cpu_count": 2, "cpu_used_pct": 1.5,
        "mem_total": 536_870_912, "mem_used": 100_000_000, "mem_cache": 1_000_000,
        "mem_total_mib": 512, "mem_used_mib": 95, "disk_used": 1_000_000, "disk_total": 1_073_741_824,
    });
    if w.on("agent-metrics-without-disk") {
        body["disk_total"] = Value::Null;
    }
    body
}

fn refused(w: &World, sandbox: &Sandbox, request: &Request) -> Option<Response> {
    let token = sandbox.token.as_deref()?;
    let given = header(request.headers(), "x-access-token");
    let foreign = || {
        let all = lock(&w.sandboxes);
        given.is_some() && all.values().any(|other| other.token.as_deref() == given)
    };
    let open = (w.on("agent-open") && given.is_none())
        || (w.on("agent-any-token") && given.is_some())
        || (w.on("agent-foreign-token") && foreign())
        || (w.on("envs-open") && request.uri().path() == "/envs");
    if open || given == Some(token) {
        return None;
    }
    if w.on("agent-refusal-as-text") {
        return Some(bare(401, "text/plain", "unauthorized"));
    }
    Some(answer_json(
        401,
        &json!({ "code": 401, "message": "unauthorized access, use a valid access token" }),
    ))
}

/// The user of a call, or the error that there is none.
fn acting(
    w: &World,
    sandbox: &Sandbox,
    request: &http::HeaderMap,
) -> Result<User, connect::Failure> {
    let given = header(request, "authorization")
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(|text| text.split(':').next().unwrap_or("").to_owned());
    let name = given
        .filter(|_| !w.on("basic-user-ignored"))
        .unwrap_or_default();
    user_of(w, sandbox, &name).ok_or_else(|| {
        let words = if w.on("unknown-user-words") {
            "denied".to_owned()
        } else {
            format!("invalid username: '{name}'")
        };
        connect::Failure::new(
            if w.on("unknown-user-internal") {
                "internal"
            } else {
                "unauthenticated"
            },
            &words,
        )
    })
}

async fn rpc(
    w: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    call: (&str, &str),
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return connect::unary(
            w,
            Err(connect::Failure::new(
                "resource_exhausted",
                "the body is too large",
            )),
        );
    };
    let streaming = header(&head.headers, "content-type")
        .is_some_and(|kind| kind.starts_with("application/connect+"));
    match transcode::request(w, &head.headers, call.1, &body) {
        Ok(None) => {}
        Ok(Some((codec, body))) => {
            let response = called(w, sandbox, call, &head.headers, streaming, &body).await;
            return transcode::answer(w, codec, response).await;
        }
        Err(failure) if streaming => {
            return bare(
                200,
                "application/connect+proto",
                connect::end(Some(&failure)),
            );
        }
        Err(failure) => return connect::unary(w, Err(failure)),
    }
    called(w, sandbox, call, &head.headers, streaming, &body).await
}

async fn called(
    w: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    call: (&str, &str),
    headers: &http::HeaderMap,
    streaming: bool,
    body: &[u8],
) -> Response {
    let who = acting(w, sandbox, headers);
    if streaming {
        return streams::answer(w, sandbox, call, headers, who, body).await;
    }
    let parsed = connect::message(w, body);
    let result = match (parsed, who) {
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
        (Ok(body), Ok(who)) => match call {
            ("process.Process", method) => process::unary(w, sandbox, method, &body).await,
            ("filesystem.Filesystem", method) if watch::is_own(method) => {
                watch::unary(w, sandbox, &who, method, &body)
            }
            ("filesystem.Filesystem", method) => filesystem::unary(w, sandbox, &who, method, &body),
            _ => Err(connect::Failure::new("unimplemented", "no such service")),
        },
    };
    connect::unary(w, result)
}
