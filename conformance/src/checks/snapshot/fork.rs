//! Forks.

use http::Method;
use serde_json::{Value, json};

use super::{remembering, remembers};
use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::checks::pause::paused;
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::reply::Reply;

pub const CHECKS: &[Check] = &[
    Check::new(
        "snapshot/fork",
        &["fork-200", "fork-bare-sandboxes"],
        "A fork answers 201 with an array of entries that have a sandbox.",
        |c| Box::pin(status(c)),
    ),
    Check::new(
        "snapshot/fork-count",
        &["fork-count-ignored"],
        "A fork of count N gives N sandboxes.",
        |c| Box::pin(count(c)),
    ),
    Check::new(
        "snapshot/fork-no-body",
        &["fork-needs-body"],
        "A fork takes no body, and an empty one.",
        |c| Box::pin(no_body(c)),
    ),
    Check::new(
        "snapshot/fork-memory",
        &["fork-without-memory"],
        "A fork has its parent's memory.",
        |c| Box::pin(memory(c)),
    ),
    Check::new(
        "snapshot/fork-apart",
        &["fork-shares-files"],
        "Files of parent and forks are apart.",
        |c| Box::pin(apart(c)),
    ),
    Check::new(
        "snapshot/fork-parent",
        &["fork-stops-parent"],
        "The parent goes on running.",
        |c| Box::pin(parent(c)),
    ),
    Check::new(
        "snapshot/fork-paused",
        &["fork-of-paused-201"],
        "Forking a paused sandbox is a 409.",
        |c| Box::pin(of_paused(c)),
    ),
    Check::new(
        "snapshot/fork-unknown",
        &["fork-of-missing-201"],
        "Forking an unknown sandbox is a 404.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "snapshot/fork-too-many",
        &["fork-any-count"],
        "A count beyond 100 is a 400.",
        |c| Box::pin(too_many(c)),
    ),
];

async fn fork(c: &Context, id: &str, body: &Value) -> Result<Reply, Stop> {
    c.post(&format!("/sandboxes/{id}/fork"), body).await
}

/// The sandboxes of a fork's answer.
fn forks(reply: &Reply) -> Result<Vec<Sandbox>, Stop> {
    let entries = reply.status(201)?.array()?;
    let read = entries.iter().map(|entry| match &entry["sandbox"] {
        Value::Object(_) => Sandbox::read(&entry["sandbox"]),
        _ => Err(fail("entries with `sandbox`", entry.to_string())),
    });
    read.collect()
}

/// One fork of a sandbox.
async fn one(c: &Context, parent: &Sandbox) -> Result<Sandbox, Stop> {
    let reply = fork(c, &parent.id, &json!({ "timeout": 300 })).await?;
    let mut forks = forks(&reply)?;
    forks.pop().ok_or_else(|| fail("a fork", "none"))
}

async fn status(c: Context) -> Verdict {
    let parent = c.fresh(json!({})).await?;
    let clone = one(&c, &parent).await?;
    expect(clone.id != parent.id, "a sandbox of its own", &clone.id)?;
    let done = clone.run(&c, "echo on").await?;
    equal("output", done.out().trim_end(), "on")
}

async fn count(c: Context) -> Verdict {
    let parent = c.fresh(json!({})).await?;
    let body = json!({ "count": 3, "timeout": 300 });
    let mut ids: Vec<String> = forks(&fork(&c, &parent.id, &body).await?)?
        .into_iter()
        .map(|fork| fork.id)
        .collect();
    ids.sort();
    ids.dedup();
    equal("different sandboxes", &ids.len(), &3)
}

async fn no_body(c: Context) -> Verdict {
    let parent = c.fresh(json!({})).await?;
    let path = format!("/sandboxes/{}/fork", parent.id);
    let bare = c.send(c.api(Method::POST, &path)).await?;
    equal("forks without body", &forks(&bare)?.len(), &1)?;
    let empty = fork(&c, &parent.id, &json!({})).await?;
    equal("forks with `{}`", &forks(&empty)?.len(), &1)
}

async fn memory(c: Context) -> Verdict {
    let parent = c.fresh(json!({})).await?;
    let memory = remembering(&c, &parent).await?;
    let clone = one(&c, &parent).await?;
    remembers(&c, &clone, &memory).await
}

async fn apart(c: Context) -> Verdict {
    let parent = c.fresh(json!({})).await?;
    parent.put(&c, "/home/user/mark", b"before").await?;
    let clone = one(&c, &parent).await?;
    parent.put(&c, "/home/user/mark", b"parent").await?;
    let file = clone.read_file(&c, "/home/user/mark").await?;
    equal(
        "the fork's file",
        file.status(200)?.text().as_str(),
        "before",
    )?;
    clone.put(&c, "/home/user/mark", b"fork").await?;
    let file = parent.read_file(&c, "/home/user/mark").await?;
    equal(
        "the parent's file",
        file.status(200)?.text().as_str(),
        "parent",
    )
}

async fn parent(c: Context) -> Verdict {
    let parent = c.fresh(json!({})).await?;
    one(&c, &parent).await?;
    let path = format!("/sandboxes/{}", parent.id);
    let detail = c.get(&path).await?.status(200)?.json()?;
    equal("state", &detail["state"], &json!("running"))?;
    let done = parent.run(&c, "echo on").await?;
    equal("output", done.out().trim_end(), "on")
}

async fn of_paused(c: Context) -> Verdict {
    let parent = c.fresh(json!({})).await?;
    paused(&c, &parent, &json!({})).await?;
    let reply = fork(&c, &parent.id, &json!({})).await?;
    reply.refusal(409).map(|_| ())
}

async fn unknown(c: Context) -> Verdict {
    let reply = fork(&c, &format!("i{}", c.unique()), &json!({})).await?;
    reply.refusal(404).map(|_| ())
}

async fn too_many(c: Context) -> Verdict {
    let parent = c.fresh(json!({})).await?;
    let reply = fork(&c, &parent.id, &json!({ "count": 101, "timeout": 15 })).await?;
    reply.refusal(400).map(|_| ())
}
