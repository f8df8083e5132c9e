//! Taking a snapshot.

use serde_json::json;

use super::{snapshot, take};
use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;
use crate::wire::reply::text;

pub const CHECKS: &[Check] = &[
    Check::new(
        "snapshot/status",
        &["snapshot-200", "snapshot-without-names"],
        "A snapshot answers 201 with snapshotID and names.",
        |c| Box::pin(status(c)),
    ),
    Check::new(
        "snapshot/source-runs",
        &["snapshot-stops-source"],
        "The source goes on running.",
        |c| Box::pin(source_runs(c)),
    ),
    Check::new(
        "snapshot/unknown",
        &["snapshot-of-missing-201"],
        "A snapshot of an unknown sandbox is a 404.",
        |c| Box::pin(unknown(c)),
    ),
];

async fn status(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let reply = take(&c, &sandbox.id, &json!({})).await?;
    let body = reply.status(201)?.json()?;
    text(&body, "snapshotID")?;
    expect(
        body["names"].is_array(),
        "member `names` as an array",
        body.to_string(),
    )
}

async fn source_runs(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    snapshot(&c, &sandbox, &json!({})).await?;
    let path = format!("/sandboxes/{}", sandbox.id);
    let detail = c.get(&path).await?.status(200)?.json()?;
    equal("state", &detail["state"], &json!("running"))?;
    let done = sandbox.run(&c, "echo on").await?;
    equal("output", done.out().trim_end(), "on")
}

async fn unknown(c: Context) -> Verdict {
    // Another one is there, so that the refusal is for the id.
    c.shared().await?;
    let reply = take(&c, &format!("i{}", c.unique()), &json!({})).await?;
    reply.refusal(404).map(|_| ())
}
