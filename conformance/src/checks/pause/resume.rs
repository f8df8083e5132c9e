//! Resuming.

use serde_json::json;

use super::{health, paused, resumed, round};
use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "pause/resume",
        &["resume-200"],
        "Connecting to a paused sandbox answers 201, and it runs.",
        |c| Box::pin(status(c)),
    ),
    Check::new(
        "pause/resume-token",
        &["resume-new-token"],
        "The access token stays the same over pause and resume.",
        |c| Box::pin(token(c)),
    ),
    Check::new(
        "pause/resume-twice",
        &["second-pause-loses-files"],
        "Files of every round of pause and resume are kept.",
        |c| Box::pin(twice(c)),
    ),
    Check::new(
        "pause/old-resume",
        &["old-resume-missing", "resume-running-201"],
        "The old resume answers 201, and 409 when the sandbox runs.",
        |c| Box::pin(old_resume(c)),
    ),
];

async fn status(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let path = format!("/v2/sandboxes/{}/connect", sandbox.id);
    let body = c.post(&path, &json!({})).await?.status(201)?.json()?;
    equal("sandboxID", &body["sandboxID"], &json!(sandbox.id))?;
    let alive = health(&c, &sandbox).await?;
    expect(
        alive.status.is_success(),
        "an agent that answers",
        alive.brief(),
    )
}

async fn token(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let body = resumed(&c, &sandbox).await?;
    let same = body["envdAccessToken"].as_str() == sandbox.token.as_deref();
    expect(same, "the same envdAccessToken", "another one, or none")?;
    let reply = sandbox.rpc(&c, "process.Process/List", &json!({})).await?;
    reply.status(200).map(|_| ())
}

async fn twice(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    for number in 1..=3 {
        let path = format!("/home/user/round-{number}");
        sandbox.put(&c, &path, b"kept").await?;
        round(&c, &sandbox, &json!({})).await?;
    }
    for number in 1..=3 {
        let path = format!("/home/user/round-{number}");
        let file = sandbox.read_file(&c, &path).await?;
        equal(&path, file.status(200)?.text().as_str(), "kept")?;
    }
    Ok(())
}

async fn old_resume(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let path = format!("/sandboxes/{}/resume", sandbox.id);
    let body = json!({ "timeout": 120 });
    c.post(&path, &body).await?.status(201)?;
    c.post(&path, &body).await?.refusal(409).map(|_| ())
}
