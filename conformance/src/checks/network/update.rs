//! Updates of a policy.

use http::Method;
use serde_json::{Value, json};

use super::{ALL, closed, opened, reached, sandbox};
use crate::check::{Check, Stop, Verdict};
use crate::checks::pause::{paused, resumed};
use crate::context::Context;
use crate::wire::reply::Reply;

pub const CHECKS: &[Check] = &[
    Check::new(
        "network/update",
        &["network-update-200"],
        "An update answers 204.",
        |c| Box::pin(status(c)),
    ),
    Check::new(
        "network/update-replaces",
        &["network-update-merges"],
        "An update replaces the whole policy.",
        |c| Box::pin(replaces(c)),
    ),
    Check::new(
        "network/update-unknown",
        &["network-of-missing-204"],
        "Updating an unknown sandbox is a 404.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "network/update-bad",
        &["bad-network-204"],
        "An update that is not valid is a 400.",
        |c| Box::pin(bad(c)),
    ),
    Check::new(
        "network/update-paused",
        &["network-of-paused-204"],
        "Updating a paused sandbox is a 409.",
        |c| Box::pin(of_paused(c)),
    ),
    Check::new(
        "network/kept-over-pause",
        &["policy-lost-on-pause"],
        "The policy is kept over pause and resume.",
        |c| Box::pin(kept(c)),
    )
    .slow(),
];

/// Any reply is a result.
pub async fn update(c: &Context, id: &str, body: &Value) -> Result<Reply, Stop> {
    let path = format!("/sandboxes/{id}/network");
    c.send(c.api(Method::PUT, &path).json(body)).await
}

async fn status(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let body = json!({ "denyOut": [ALL] });
    update(&c, &sandbox.id, &body).await?.status(204)?;
    Ok(())
}

async fn replaces(c: Context) -> Verdict {
    opened(&c).await?;
    let outside = &c.target().outside;
    let network = json!({ "allowOut": [outside.first_host()], "denyOut": [ALL] });
    let probe = sandbox(&c, json!({ "network": network })).await?;
    // The first server is no longer allowed, as allowOut is left out; the second is no longer denied.
    let body = json!({ "allow_internet_access": true, "denyOut": [outside.first_host()] });
    update(&c, &probe.sandbox.id, &body).await?.status(204)?;
    closed(&c, &probe, &outside.first).await?;
    reached(&c, &probe, &outside.second).await
}

async fn unknown(c: Context) -> Verdict {
    let id = format!("i{}", c.unique());
    update(&c, &id, &json!({ "denyOut": [ALL] }))
        .await?
        .refusal(404)?;
    Ok(())
}

async fn bad(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let body = json!({ "denyOut": ["not an address"] });
    update(&c, &sandbox.id, &body).await?.refusal(400)?;
    Ok(())
}

async fn of_paused(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    paused(&c, &sandbox, &json!({})).await?;
    update(&c, &sandbox.id, &json!({ "denyOut": [ALL] }))
        .await?
        .refusal(409)?;
    Ok(())
}

async fn kept(c: Context) -> Verdict {
    opened(&c).await?;
    let outside = &c.target().outside;
    let network = json!({ "denyOut": [outside.first_host()] });
    let probe = sandbox(&c, json!({ "network": network })).await?;
    paused(&c, &probe.sandbox, &json!({})).await?;
    resumed(&c, &probe.sandbox)
        .await
        .map_err(|stop| stop.blocks("the sandbox could not be resumed"))?;
    closed(&c, &probe, &outside.first).await?;
    reached(&c, &probe, &outside.second).await
}
