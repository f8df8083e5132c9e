//! The queue that is asked: `CreateWatcher`, `GetWatcherEvents`, `RemoveWatcher`.

use serde_json::{Value, json};

use super::{folder, is, of, shown};
use crate::check::{Check, Stop, Verdict, expect};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::reply::{Reply, text};

pub const CHECKS: &[Check] = &[
    Check::new(
        "watch/watcher",
        &["watcher-without-id"],
        "CreateWatcher gives an id.",
        |c| Box::pin(created(c)),
    ),
    Check::new(
        "watch/watcher-events",
        &["watcher-late"],
        "GetWatcherEvents right after a write has its events.",
        |c| Box::pin(events(c)),
    ),
    Check::new(
        "watch/watcher-drains",
        &["watcher-repeats"],
        "GetWatcherEvents gives each event once.",
        |c| Box::pin(drains(c)),
    ),
    Check::new(
        "watch/watcher-unknown",
        &["watcher-unknown-empty"],
        "An unknown watcher is not_found.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "watch/watcher-removed",
        &["watcher-stays"],
        "After RemoveWatcher its id is unknown.",
        |c| Box::pin(removed(c)),
    ),
];

async fn call(c: &Context, sandbox: &Sandbox, method: &str, body: &Value) -> Result<Reply, Stop> {
    let method = format!("filesystem.Filesystem/{method}");
    sandbox.rpc(c, &method, body).await
}

/// A watcher of a new folder: sandbox, folder, body that names the watcher.
async fn watcher(c: &Context) -> Result<(Sandbox, String, Value), Stop> {
    let (sandbox, path) = folder(c).await?;
    let reply = call(c, &sandbox, "CreateWatcher", &of(&path, json!({}))).await?;
    let id = text(&reply.status(200)?.json()?, "watcherId")?;
    Ok((sandbox, path, json!({ "watcherId": id })))
}

async fn told(c: &Context, sandbox: &Sandbox, watcher: &Value) -> Result<Vec<Value>, Stop> {
    let reply = call(c, sandbox, "GetWatcherEvents", watcher).await?;
    let body = reply.status(200)?.json()?;
    Ok(body["events"].as_array().cloned().unwrap_or_default())
}

async fn created(c: Context) -> Verdict {
    let (_, _, watcher) = watcher(&c).await?;
    expect(
        watcher["watcherId"] != "",
        "an id",
        watcher["watcherId"].to_string(),
    )
}

async fn events(c: Context) -> Verdict {
    let (sandbox, path, watcher) = watcher(&c).await?;
    sandbox.put(&c, &format!("{path}/new"), b"text").await?;
    let seen = told(&c, &sandbox, &watcher).await?;
    let whole = ["CREATE", "WRITE"]
        .iter()
        .all(|kind| seen.iter().any(|event| is(event, kind, "new")));
    expect(whole, "CREATE and WRITE of \"new\"", shown(&seen))
}

async fn drains(c: Context) -> Verdict {
    let (sandbox, path, watcher) = watcher(&c).await?;
    sandbox.put(&c, &format!("{path}/new"), b"text").await?;
    let first = told(&c, &sandbox, &watcher).await?;
    if first.is_empty() {
        return Err(Stop::Untestable("no events came at all".to_owned()));
    }
    let second = told(&c, &sandbox, &watcher).await?;
    expect(second.is_empty(), "no event twice", shown(&second))
}

async fn unknown(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let watcher = json!({ "watcherId": c.unique() });
    let reply = call(&c, &sandbox, "GetWatcherEvents", &watcher).await?;
    reply.connect_error("not_found", 404).map(|_| ())
}

async fn removed(c: Context) -> Verdict {
    let (sandbox, _, watcher) = watcher(&c).await?;
    call(&c, &sandbox, "RemoveWatcher", &watcher)
        .await?
        .status(200)?;
    let reply = call(&c, &sandbox, "GetWatcherEvents", &watcher).await?;
    reply.connect_error("not_found", 404).map(|_| ())
}
