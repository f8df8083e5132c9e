//! The pause itself, and what a paused sandbox is.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{health, lives, pause, paused, resumed, sleeper, state};
use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;
use crate::wire::encode::metadata_filter;
use crate::wire::reply::time;

pub const CHECKS: &[Check] = &[
    Check::new(
        "pause/status",
        &["pause-200"],
        "A pause answers 204.",
        |c| Box::pin(status(c)),
    ),
    Check::new(
        "pause/again",
        &["pause-twice-204"],
        "Pausing a paused sandbox is a 409.",
        |c| Box::pin(again(c)),
    ),
    Check::new(
        "pause/unknown",
        &["pause-of-missing-204"],
        "Pausing an unknown sandbox is a 404.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "pause/state",
        &["paused-state-running"],
        "A paused sandbox's state is paused.",
        |c| Box::pin(state_of(c)),
    ),
    Check::new(
        "pause/listed",
        &["paused-not-listed", "state-filter-ignored"],
        "A paused sandbox is listed under state paused, and not under running.",
        |c| Box::pin(listed(c)),
    ),
    Check::new(
        "pause/end-at",
        &["paused-end-unchanged"],
        "A paused sandbox's endAt is the time of its pause.",
        |c| Box::pin(end_at(c)),
    ),
    Check::new(
        "pause/kept",
        &["paused-expires"],
        "A paused sandbox does not expire.",
        |c| Box::pin(kept(c)),
    )
    .slow(),
    Check::new(
        "pause/killed",
        &["paused-kill-404"],
        "A paused sandbox can be killed.",
        |c| Box::pin(killed(c)),
    ),
    Check::new(
        "pause/traffic",
        &["paused-agent-answers"],
        "Traffic to a paused sandbox is a 502, and does not wake it.",
        |c| Box::pin(traffic(c)),
    ),
    Check::new(
        "pause/timeout",
        &["paused-timeout-204"],
        "Setting the timeout of a paused sandbox is a 404.",
        |c| Box::pin(timeout(c)),
    ),
    Check::new(
        "pause/disk-only",
        &["disk-pause-keeps-processes"],
        "A pause with memory false keeps files and no process.",
        |c| Box::pin(disk_only(c)),
    ),
];

async fn status(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let reply = pause(&c, &sandbox.id, &json!({})).await?;
    reply.status(204).map(|_| ())
}

async fn again(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let reply = pause(&c, &sandbox.id, &json!({})).await?;
    reply.refusal(409).map(|_| ())
}

async fn unknown(c: Context) -> Verdict {
    let id = format!("i{}", c.unique());
    let reply = pause(&c, &id, &json!({})).await?;
    reply.refusal(404).map(|_| ())
}

async fn state_of(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    equal(
        "state before",
        state(&c, &sandbox.id).await?.as_str(),
        "running",
    )?;
    paused(&c, &sandbox, &json!({})).await?;
    equal("state", state(&c, &sandbox.id).await?.as_str(), "paused")
}

async fn listed(c: Context) -> Verdict {
    let mark = c.unique();
    let extra = json!({ "metadata": { "mark": mark } });
    let sandbox = c.fresh(extra).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let filter = metadata_filter(&[("mark", &mark)]);
    for (state, wanted) in [("paused", 1), ("running", 0)] {
        let path = format!("/v2/sandboxes?state={state}&metadata={filter}");
        let items = c.get(&path).await?.status(200)?.array()?;
        let ours = items
            .iter()
            .filter(|item| item["sandboxID"] == sandbox.id.as_str());
        equal(&format!("under state={state}"), &ours.count(), &wanted)?;
    }
    Ok(())
}

async fn end_at(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({ "timeout": 3_000 })).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let path = format!("/sandboxes/{}", sandbox.id);
    let detail = c.get(&path).await?.status(200)?.json()?;
    let left = time(&detail, "endAt")?.as_second() - Timestamp::now().as_second();
    expect(
        left.abs() < 1_000,
        "an endAt about now",
        format!("in {left} s"),
    )
}

async fn kept(c: Context) -> Verdict {
    let seconds = c.limit(1.5).as_secs().max(2);
    let sandbox = c.fresh(json!({ "timeout": seconds })).await?;
    paused(&c, &sandbox, &json!({})).await?;
    tokio::time::sleep(Duration::from_secs(seconds + 1)).await;
    equal("state", state(&c, &sandbox.id).await?.as_str(), "paused")
}

async fn killed(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let path = format!("/sandboxes/{}", sandbox.id);
    c.delete(&path).await?.status(204)?;
    c.get(&path).await?.status(404).map(|_| ())
}

async fn traffic(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let reply = health(&c, &sandbox).await?;
    let body = reply.status(502)?.json()?;
    let message = body["message"].as_str().unwrap_or("").to_owned();
    // SDKs tell a sandbox that does not run by these words.
    expect(
        message.contains("was not found"),
        "a message with \"was not found\"",
        message,
    )?;
    equal("state", state(&c, &sandbox.id).await?.as_str(), "paused")
}

async fn timeout(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let path = format!("/sandboxes/{}/timeout", sandbox.id);
    let reply = c.post(&path, &json!({ "timeout": 60 })).await?;
    reply.refusal(404).map(|_| ())
}

async fn disk_only(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    sandbox.put(&c, "/home/user/kept", b"kept").await?;
    let pid = sleeper(&c, &sandbox).await?;
    pause(&c, &sandbox.id, &json!({ "memory": false }))
        .await?
        .status(204)?;
    resumed(&c, &sandbox).await?;
    let file = sandbox.read_file(&c, "/home/user/kept").await?;
    equal("content", file.status(200)?.text().as_str(), "kept")?;
    let lives = lives(&c, &sandbox, pid).await?;
    expect(!lives, "no process of before", format!("{pid} is listed"))
}
