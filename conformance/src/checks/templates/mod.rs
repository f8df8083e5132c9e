//! Templates: building, what the steps of a build do, and managing what was built.
//!
//! ```text
//!  POST /v3/templates ──► (GET files link ──► PUT archive) ──► POST v2 build ──► GET status until ready or error
//! ```
//!
//! Builds take minutes at some vendors, so the checks of steps share one template that has them all.

mod build;
mod context;
mod manage;
mod steps;

use http::Method;
use serde_json::{Value, json};

use crate::check::{Check, Stop, fail};
use crate::context::{Context, unique};
use crate::wire::encode::percent;
use crate::wire::reply::{Reply, text};

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [build::CHECKS, steps::CHECKS, manage::CHECKS].concat()
}

/// A template that was reserved, and perhaps built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// `templateID`.
    pub id: String,
    /// `buildID`.
    pub build: String,
    /// The name that it was reserved under.
    pub name: String,
    /// Its full names, as the reservation answered.
    pub names: Vec<String>,
}

impl Built {
    /// Where it is deleted.
    #[must_use]
    pub fn delete_path(&self) -> String {
        format!("/templates/{}", percent(&self.id))
    }

    /// A path below one of its build.
    fn build_path(&self, rest: &str) -> String {
        format!(
            "/templates/{}/builds/{}{rest}",
            percent(&self.id),
            percent(&self.build)
        )
    }
}

/// Reserves a template with what the check adds; any reply is a result, and a success is deleted with the check.
async fn reserve(c: &Context, name: &str, extra: Value) -> Result<Reply, Stop> {
    let mut body = json!({ "name": name });
    for (name, value) in extra.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    c.post("/v3/templates", &body).await
}

/// A name that nobody else uses.
fn name() -> String {
    format!("e2b-conformance-{}", unique())
}

/// A template that waits for its build.
///
/// # Errors
/// Untestable when it cannot be reserved.
async fn reserved(c: &Context) -> Result<Built, Stop> {
    let blocked = |stop: Stop| stop.blocks("a template could not be reserved");
    let name = name();
    let reply = reserve(c, &name, json!({})).await.map_err(blocked)?;
    if !reply.status.is_success() {
        return Err(blocked(fail("a template", reply.brief())));
    }
    let body = reply.json().map_err(blocked)?;
    let names = body["names"].as_array().into_iter().flatten();
    Ok(Built {
        id: text(&body, "templateID").map_err(blocked)?,
        build: text(&body, "buildID").map_err(blocked)?,
        names: names.filter_map(Value::as_str).map(str::to_owned).collect(),
        name,
    })
}

/// Triggers a build of the target's template and these steps; any reply is a result.
async fn trigger(c: &Context, built: &Built, extra: Value) -> Result<Reply, Stop> {
    let mut body = json!({ "fromTemplate": c.target().template, "steps": [], "force": false });
    for (name, value) in extra.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let path = format!("/v2{}", built.build_path(""));
    c.send(c.api(Method::POST, &path).json(&body)).await
}

/// A build's status, from a log entry on.
async fn status(c: &Context, built: &Built, offset: usize) -> Result<Value, Stop> {
    let path = built.build_path(&format!("/status?logsOffset={offset}"));
    c.get(&path).await?.status(200)?.json()
}

/// The last status of a build.
///
/// # Errors
/// When it has none of its own, or does not end.
async fn ended(c: &Context, built: &Built) -> Result<Value, Stop> {
    let look = || async {
        let seen = status(c, built, 0).await?;
        match seen["status"].as_str() {
            Some("waiting" | "building") => Ok(None),
            Some("ready" | "error") => Ok(Some(seen)),
            _ => Err(fail(
                "a status of waiting, building, ready or error",
                seen["status"].to_string(),
            )),
        }
    };
    c.eventually("an end of the build", c.limit(100.0), look)
        .await
}

/// Builds, whatever comes of it.
async fn build(c: &Context, body: Value) -> Result<(Built, Value), Stop> {
    let built = reserved(c).await?;
    let blocked = |stop: Stop| stop.blocks("a build could not be triggered");
    trigger(c, &built, body)
        .await
        .map_err(blocked)?
        .status(202)
        .map_err(blocked)?;
    let end = ended(c, &built).await?;
    Ok((built, end))
}

/// Builds a template that a check needs.
///
/// # Errors
/// Untestable when the build does not get ready.
async fn ready(c: &Context, body: Value) -> Result<Built, Stop> {
    let blocked = |stop: Stop| stop.blocks("a template could not be built");
    let (built, end) = build(c, body).await.map_err(blocked)?;
    if end["status"] == "ready" {
        return Ok(built);
    }
    Err(blocked(fail("status ready", end.to_string())))
}
