//! Watches, in protobuf.

use serde_json::{Value, json};

use super::{rpc, stream};
use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::sandbox::Sandbox;

pub const CHECKS: &[Check] = &[
    Check::new(
        "watch/proto-stream",
        &["proto-stream-as-json", "proto-event-type-shifted"],
        "WatchDir streams in protobuf.",
        |c| Box::pin(streamed(c)),
    ),
    Check::new(
        "watch/proto-polling",
        &["proto-as-json", "proto-event-type-shifted"],
        "Watchers are polled in protobuf.",
        |c| Box::pin(polled(c)),
    ),
];

async fn folder(c: &Context) -> Result<(Sandbox, String), Stop> {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/proto-{}", c.unique());
    sandbox.put(c, &format!("{path}/before"), b"x").await?;
    Ok((sandbox, path))
}

async fn streamed(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let body = json!({ "path": path });
    let mut events = stream(&c, &sandbox, "filesystem.Filesystem/WatchDir", &body).await?;
    let first = events.message(c.usual()).await?.unwrap_or_default();
    expect(
        first["start"].is_object(),
        "a start event",
        first.to_string(),
    )?;
    sandbox.put(&c, &format!("{path}/new"), b"x").await?;
    let event = events.message(c.usual()).await?.unwrap_or_default();
    created(&event["filesystem"])
}

async fn polled(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let body = json!({ "path": path });
    let made = rpc(&c, &sandbox, "filesystem.Filesystem/CreateWatcher", &body).await?;
    let id = made["watcherId"].as_str().filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| fail("a watcher_id", made.to_string()))?;
    sandbox.put(&c, &format!("{path}/new"), b"x").await?;
    let body = json!({ "watcherId": id });
    let got = rpc(
        &c,
        &sandbox,
        "filesystem.Filesystem/GetWatcherEvents",
        &body,
    )
    .await?;
    created(&got["events"][0])?;
    rpc(&c, &sandbox, "filesystem.Filesystem/RemoveWatcher", &body)
        .await
        .map(|_| ())
}

fn created(event: &Value) -> Verdict {
    equal("name", &event["name"], &json!("new"))?;
    equal("type", &event["type"], &json!("EVENT_TYPE_CREATE"))
}
