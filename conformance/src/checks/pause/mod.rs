//! Pausing, resuming, and both without being asked.

mod auto;
mod halt;
mod kept;
mod resume;

use http::Method;
use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, fail};
use crate::context::Context;
use crate::sandbox::{Sandbox, shell};
use crate::wire::reply::{Reply, text};

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [halt::CHECKS, resume::CHECKS, kept::CHECKS, auto::CHECKS].concat()
}

/// The pause call; any reply is a result.
async fn pause(c: &Context, id: &str, body: &Value) -> Result<Reply, Stop> {
    c.post(&format!("/sandboxes/{id}/pause"), body).await
}

/// Pauses, as a means of another check.
pub async fn paused(c: &Context, sandbox: &Sandbox, body: &Value) -> Verdict {
    let reply = pause(c, &sandbox.id, body).await?;
    let done = reply.one_of(&[200, 204]).map(|_| ());
    done.map_err(|stop| stop.blocks("the sandbox could not be paused"))
}

/// Connects to a paused sandbox; gives the answer.
pub async fn resumed(c: &Context, sandbox: &Sandbox) -> Result<Value, Stop> {
    let path = format!("/v2/sandboxes/{}/connect", sandbox.id);
    let reply = c.post(&path, &json!({ "timeout": 300 })).await?;
    reply.one_of(&[200, 201])?.json()
}

/// A pause and a resume.
async fn round(c: &Context, sandbox: &Sandbox, body: &Value) -> Verdict {
    paused(c, sandbox, body).await?;
    resumed(c, sandbox).await.map(|_| ())
}

async fn state(c: &Context, id: &str) -> Result<String, Stop> {
    let detail = c.get(&format!("/sandboxes/{id}")).await?;
    text(&detail.status(200)?.json()?, "state")
}

/// Lets the sandbox's time be over, and waits until it is paused.
async fn run_out(c: &Context, sandbox: &Sandbox) -> Verdict {
    let path = format!("/sandboxes/{}/timeout", sandbox.id);
    let reply = c.post(&path, &json!({ "timeout": 0 })).await?;
    let set = reply.one_of(&[200, 204]).map(|_| ());
    set.map_err(|stop| stop.blocks("the time could not be set"))?;
    let is_paused = || async {
        let reply = c.get(&format!("/sandboxes/{}", sandbox.id)).await?;
        if reply.status.as_u16() == 404 {
            return Err(fail("a paused sandbox at its end", reply.brief()));
        }
        let state = text(&reply.status(200)?.json()?, "state")?;
        Ok((state == "paused").then_some(()))
    };
    c.eventually("state paused", c.limit(8.0), is_paused).await
}

/// A process that sleeps, on its own; gives its pid.
async fn sleeper(c: &Context, sandbox: &Sandbox) -> Result<u64, Stop> {
    let process = sandbox.start(c, &shell("sleep 900", json!({}))).await;
    let process = process.map_err(|stop| stop.blocks("a process did not start"))?;
    Ok(process.pid)
}

/// Whether a process is listed.
async fn lives(c: &Context, sandbox: &Sandbox, pid: u64) -> Result<bool, Stop> {
    let reply = sandbox.rpc(c, "process.Process/List", &json!({})).await?;
    let body = reply.status(200)?.json()?;
    let all = body["processes"].as_array().cloned().unwrap_or_default();
    Ok(all.iter().any(|one| one["pid"].as_u64() == Some(pid)))
}

/// The agent's health, with the sandbox's token.
async fn health(c: &Context, sandbox: &Sandbox) -> Result<Reply, Stop> {
    c.send(sandbox.agent(c, Method::GET, "/health")).await
}
