//! Logs, both versions.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::encode::percent;
use crate::wire::reply::{text, time};

pub const CHECKS: &[Check] = &[
    Check::new(
        "metrics/logs-v1",
        &["logs-v1-without-lines"],
        "Logs of the first version have logs and logEntries.",
        |c| Box::pin(v1(c)),
    ),
    Check::new(
        "metrics/logs-v2",
        &["logs-without-level"],
        "Logs of the second version have timestamp, message, level and fields.",
        |c| Box::pin(v2(c)),
    ),
    Check::new(
        "metrics/logs-limit",
        &["logs-limit-ignored"],
        "The limit of logs holds.",
        |c| Box::pin(limit(c)),
    ),
    Check::new(
        "metrics/logs-direction",
        &["logs-direction-ignored"],
        "Forward is oldest first, backward newest first.",
        |c| Box::pin(direction(c)),
    ),
    Check::new(
        "metrics/logs-level",
        &["logs-level-ignored"],
        "With level error there are no lesser entries.",
        |c| Box::pin(level(c)),
    ),
    Check::new(
        "metrics/logs-search",
        &["logs-search-ignored"],
        "A search gives entries with the text only.",
        |c| Box::pin(search(c)),
    ),
    Check::new(
        "metrics/logs-unknown",
        &["logs-of-missing-empty"],
        "Logs of an unknown sandbox are a 404.",
        |c| Box::pin(unknown(c)),
    ),
];

async fn ask(c: &Context, id: &str, query: &str) -> Result<Vec<Value>, Stop> {
    let path = format!("/v2/sandboxes/{id}/logs?{query}");
    let body = c.get(&path).await?.status(200)?.json()?;
    let entries = body["logs"].as_array();
    let entries =
        entries.ok_or_else(|| crate::check::fail("member `logs` as an array", body.to_string()))?;
    Ok(entries.clone())
}

/// A sandbox that something has happened to, and its entries: two at least.
async fn eventful(c: &Context) -> Result<(Sandbox, Vec<Value>), Stop> {
    let sandbox = c.fresh(json!({})).await?;
    for _ in 0..2 {
        sandbox.run(c, "echo something to tell").await?;
    }
    // What servers write into their logs differs: a life with a pause has something for all.
    let id = &sandbox.id;
    c.post(&format!("/sandboxes/{id}/pause"), &json!({}))
        .await?;
    c.post(&format!("/v2/sandboxes/{id}/connect"), &json!({}))
        .await?;
    let there = || async {
        let entries = ask(c, &sandbox.id, "direction=forward").await?;
        Ok((entries.len() >= 2).then_some(entries))
    };
    let entries = c
        .eventually("two log entries", c.limit(10.0), there)
        .await
        .map_err(|stop| stop.blocks("nothing to look at"))?;
    Ok((sandbox, entries))
}

async fn v1(c: Context) -> Verdict {
    let (sandbox, _) = eventful(&c).await?;
    let path = format!("/sandboxes/{}/logs", sandbox.id);
    let body = c.get(&path).await?.status(200)?.json()?;
    let first = |name: &str| body[name].get(0).cloned().unwrap_or_default();
    time(&first("logs"), "timestamp")?;
    // The command line tool reads each line as JSON.
    let line = text(&first("logs"), "line")?;
    let json = serde_json::from_str::<Value>(&line).is_ok_and(|line| line.is_object());
    expect(json, "a line that is a JSON object", line)?;
    entry(&first("logEntries"))
}

fn entry(entry: &Value) -> Verdict {
    time(entry, "timestamp")?;
    text(entry, "message")?;
    let level = text(entry, "level")?;
    expect(
        ["debug", "info", "warn", "error"].contains(&level.as_str()),
        "a level of debug, info, warn, error",
        level,
    )?;
    expect(
        entry["fields"].is_object(),
        "member `fields` as an object",
        entry.to_string(),
    )
}

async fn v2(c: Context) -> Verdict {
    let (_, entries) = eventful(&c).await?;
    entries.iter().try_for_each(entry)
}

async fn limit(c: Context) -> Verdict {
    let (sandbox, _) = eventful(&c).await?;
    let entries = ask(&c, &sandbox.id, "limit=1").await?;
    equal("entries with limit=1", &entries.len(), &1)
}

fn times(entries: &[Value]) -> Result<Vec<Timestamp>, Stop> {
    entries.iter().map(|one| time(one, "timestamp")).collect()
}

async fn direction(c: Context) -> Verdict {
    let (sandbox, _) = eventful(&c).await?;
    let forward = times(&ask(&c, &sandbox.id, "direction=forward").await?)?;
    let backward = times(&ask(&c, &sandbox.id, "direction=backward").await?)?;
    if forward.first() == forward.last() {
        return Err(Stop::Untestable("all entries are of one time".to_owned()));
    }
    expect(
        forward.is_sorted(),
        "forward: oldest first",
        format!("{forward:?}"),
    )?;
    expect(
        backward.iter().rev().is_sorted(),
        "backward: newest first",
        format!("{backward:?}"),
    )
}

async fn level(c: Context) -> Verdict {
    let (sandbox, all) = eventful(&c).await?;
    if all.iter().all(|entry| entry["level"] == "error") {
        return Err(Stop::Untestable("there are errors only".to_owned()));
    }
    let errors = ask(&c, &sandbox.id, "level=error").await?;
    let lesser = errors.iter().find(|entry| entry["level"] != "error");
    expect(lesser.is_none(), "errors only", format!("{lesser:?}"))
}

async fn search(c: Context) -> Verdict {
    let (sandbox, all) = eventful(&c).await?;
    let message = text(all.first().unwrap_or(&Value::Null), "message")?;
    let query = format!("search={}", percent(&message));
    let found = ask(&c, &sandbox.id, &query).await?;
    expect(
        !found.is_empty(),
        format!("entries with {message:?}"),
        "none",
    )?;
    let none = ask(&c, &sandbox.id, &format!("search={}", c.unique())).await?;
    expect(
        none.is_empty(),
        "no entry with a word that nobody said",
        format!("{none:?}"),
    )
}

async fn unknown(c: Context) -> Verdict {
    for version in ["", "/v2"] {
        let path = format!("{version}/sandboxes/i{}/logs", c.unique());
        c.get(&path).await?.refusal(404)?;
    }
    Ok(())
}
