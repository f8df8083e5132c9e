//! Snapshots that others are created from, and forks.

mod fork;
mod from;
mod listing;
mod names;
mod take;

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict};
use crate::context::Context;
use crate::sandbox::{Process, Sandbox, shell};
use crate::wire::encode::{base64, percent};
use crate::wire::reply::{Reply, text};

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [
        take::CHECKS,
        from::CHECKS,
        listing::CHECKS,
        names::CHECKS,
        fork::CHECKS,
    ]
    .concat()
}

/// The snapshot call; any reply is a result.
async fn take(c: &Context, id: &str, body: &Value) -> Result<Reply, Stop> {
    c.post(&format!("/sandboxes/{id}/snapshots"), body).await
}

/// Takes a snapshot, as a means of another check; gives its id.
async fn snapshot(c: &Context, sandbox: &Sandbox, body: &Value) -> Result<String, Stop> {
    let reply = take(c, &sandbox.id, body).await?;
    let id = reply
        .one_of(&[200, 201])
        .and_then(Reply::json)
        .and_then(|body| text(&body, "snapshotID"));
    id.map_err(|stop| stop.blocks("no snapshot could be taken"))
}

/// Creates a sandbox from a snapshot: this is what is checked, so it fails where others are untestable.
async fn from(c: &Context, snapshot: &str) -> Result<Sandbox, Stop> {
    let body = json!({ "templateID": snapshot, "timeout": 300 });
    Sandbox::read(&c.create(body).await?.status(201)?.json()?)
}

/// The path that deletes a snapshot.
fn path(snapshot: &str) -> String {
    format!("/templates/{}", percent(snapshot))
}

/// A process that has read a word, which is nowhere but in its memory.
struct Memory {
    pid: u64,
    word: String,
    /// Its stream; dropping it leaves the process running.
    _process: Process,
}

/// Starts a process that keeps a word in mind, and says it when it gets a line.
async fn remembering(c: &Context, sandbox: &Sandbox) -> Result<Memory, Stop> {
    let blocked = |stop: Stop| stop.blocks("a process did not take its input");
    let mut body = shell(
        "read word; echo heard; read line; echo $word $line",
        json!({}),
    );
    body["stdin"] = json!(true);
    let mut process = sandbox.start(c, &body).await.map_err(blocked)?;
    let word = c.unique();
    tell(c, sandbox, process.pid, &word)
        .await
        .map_err(blocked)?;
    process.until(c, "heard").await.map_err(blocked)?;
    Ok(Memory {
        pid: process.pid,
        word,
        _process: process,
    })
}

async fn tell(c: &Context, sandbox: &Sandbox, pid: u64, line: &str) -> Verdict {
    let input = json!({ "stdin": base64(format!("{line}\n").as_bytes()) });
    let body = json!({ "process": { "pid": pid }, "input": input });
    let reply = sandbox.rpc(c, "process.Process/SendInput", &body).await?;
    reply.status(200).map(|_| ())
}

/// The clone's process must still have the word in mind.
async fn remembers(c: &Context, clone: &Sandbox, memory: &Memory) -> Verdict {
    let body = json!({ "process": { "pid": memory.pid } });
    let request = clone.streaming(c, "process.Process/Connect", &body);
    let mut process = clone.started(c, request).await?;
    tell(c, clone, memory.pid, "back").await?;
    let wanted = format!("{} back", memory.word);
    process.until(c, &wanted).await.map(|_| ())
}
