//! The code interpreter: contexts, and cells as streams of lines.

mod contexts;
mod events;
mod http;
mod languages;
mod results;
mod semantics;

use std::time::Instant;

use ::http::Method;
use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, fail};
use crate::context::{Context, broken};
use crate::sandbox::Sandbox;
use crate::wire::http1;
use crate::wire::lines::Lines;
use crate::wire::reply::{Reply, text};
use crate::wire::request::Request;

/// The interpreter's port.
const PORT: u16 = 49_999;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [
        http::CHECKS,
        contexts::CHECKS,
        events::CHECKS,
        results::CHECKS,
        semantics::CHECKS,
        languages::CHECKS,
    ]
    .concat()
}

/// A request to the interpreter.
fn request(c: &Context, sandbox: &Sandbox, method: Method, path: &str) -> Request {
    let request = sandbox.port(c, method, PORT, path);
    match &sandbox.token {
        Some(token) => request.header("x-access-token", token.clone()),
        None => request,
    }
}

/// The execute request; any reply is a result.
fn execute(c: &Context, sandbox: &Sandbox, body: &Value) -> Request {
    request(c, sandbox, Method::POST, "/execute").json(body)
}

/// Begins a cell.
async fn begun(c: &Context, sandbox: &Sandbox, body: &Value) -> Result<Lines, Stop> {
    let request = execute(c, sandbox, body);
    let since = Instant::now();
    let result = http1::open(&request).await;
    let evidence = c.recorder.opened(&request, since, &result);
    let opened = result.map_err(|error| broken(&error))?;
    if opened.status.as_u16() == 200 {
        return Ok(Lines::begin(opened, evidence));
    }
    let mut opened = opened;
    let piece = opened.piece(c.usual()).await.ok().flatten();
    let why = String::from_utf8_lossy(&piece.unwrap_or_default()).into_owned();
    let why: String = why.chars().take(300).collect();
    let status = opened.status.as_u16();
    Err(fail("status 200", format!("{status} with body {why:?}")))
}

/// Reads a cell to its end.
async fn ended(c: &Context, lines: &mut Lines) -> Result<Vec<Value>, Stop> {
    let mut events = Vec::new();
    while let Some(event) = lines.value(c.usual()).await? {
        events.push(event);
    }
    Ok(events)
}

/// Runs a cell; gives its events.
pub async fn ran(c: &Context, sandbox: &Sandbox, body: &Value) -> Result<Vec<Value>, Stop> {
    ended(c, &mut begun(c, sandbox, body).await?).await
}

/// Runs a cell of Python in the default context.
async fn cell(c: &Context, code: &str) -> Result<Vec<Value>, Stop> {
    let sandbox = c.interpreter().await?;
    ran(c, &sandbox, &json!({ "code": code })).await
}

/// The first event of a type.
fn first(events: &[Value], kind: &str) -> Result<Value, Stop> {
    let found = events.iter().find(|event| event["type"] == kind);
    found
        .cloned()
        .ok_or_else(|| fail(format!("an event {kind}"), shown(events)))
}

/// All printed text of a kind.
pub fn printed(events: &[Value], kind: &str) -> String {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .filter_map(|event| event["text"].as_str())
        .collect()
}

/// The output must be this, spaces at its ends aside, without an error.
fn says(events: &[Value], wanted: &str) -> Verdict {
    if events.iter().any(|event| event["type"] == "error") {
        return Err(fail(format!("output {wanted:?}"), shown(events)));
    }
    let out = printed(events, "stdout");
    crate::check::equal("output", out.trim(), wanted)
}

/// Events in short.
fn shown(events: &[Value]) -> String {
    let text = Value::Array(events.to_vec()).to_string();
    let short: String = text.chars().take(600).collect();
    format!("{} events: {short}", events.len())
}

/// A context of the check's own, of this body; gives its id.
async fn context(c: &Context, sandbox: &Sandbox, body: &Value) -> Result<String, Stop> {
    let reply = create(c, sandbox, body).await?;
    let id = reply
        .status(200)
        .and_then(Reply::json)
        .and_then(|body| text(&body, "id"));
    id.map_err(|stop| stop.blocks("no context could be created"))
}

async fn create(c: &Context, sandbox: &Sandbox, body: &Value) -> Result<Reply, Stop> {
    let request = request(c, sandbox, Method::POST, "/contexts").json(body);
    c.send(request).await
}

/// Deletes a context; a kernel takes memory.
async fn delete(c: &Context, sandbox: &Sandbox, id: &str) -> Result<Reply, Stop> {
    let path = format!("/contexts/{id}");
    c.send(request(c, sandbox, Method::DELETE, &path)).await
}

/// Runs a cell of Python in a context.
async fn inside(
    c: &Context,
    sandbox: &Sandbox,
    context: &str,
    code: &str,
) -> Result<Vec<Value>, Stop> {
    let body = json!({ "code": code, "context_id": context });
    ran(c, sandbox, &body).await
}
