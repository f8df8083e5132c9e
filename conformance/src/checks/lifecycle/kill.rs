//! Killing.

use http::Method;
use serde_json::json;

use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::AGENT;
use crate::wire::encode::metadata_filter;

pub const CHECKS: &[Check] = &[
    Check::new(
        "lifecycle/kill",
        &["kill-200"],
        "DELETE answers 204.",
        |c| Box::pin(kill(c)),
    ),
    Check::new(
        "lifecycle/kill-is-final",
        &["killed-still-there"],
        "A killed sandbox is a 404 and in no list.",
        |c| Box::pin(is_final(c)),
    ),
    Check::new(
        "lifecycle/kill-twice",
        &["second-kill-204"],
        "Killing what is dead or unknown is a 404.",
        |c| Box::pin(twice(c)),
    ),
    Check::new(
        "lifecycle/kill-ends-traffic",
        &["any-sandbox-answers"],
        "After a kill the agent is not reached: 502.",
        |c| Box::pin(ends_traffic(c)),
    ),
];

async fn kill(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    c.delete(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .status(204)
        .map(|_| ())
}

async fn is_final(c: Context) -> Verdict {
    let mark = c.unique();
    let sandbox = c.fresh(json!({ "metadata": { "mark": mark } })).await?;
    c.delete(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .one_of(&[200, 204])?;
    c.get(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .refusal(404)?;
    let filter = metadata_filter(&[("mark", &mark)]);
    let items = c
        .get(&format!("/v2/sandboxes?metadata={filter}"))
        .await?
        .status(200)?
        .array()?;
    expect(
        items.is_empty(),
        "an empty list",
        format!("{} sandboxes", items.len()),
    )
}

async fn twice(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let path = format!("/sandboxes/{}", sandbox.id);
    c.delete(&path).await?.one_of(&[200, 204])?;
    c.delete(&path).await?.refusal(404)?;
    c.delete(&format!("/sandboxes/i{}", c.unique()))
        .await?
        .refusal(404)
        .map(|_| ())
}

async fn ends_traffic(c: Context) -> Verdict {
    // Another one lives on, so that answering for it would be noticed.
    c.shared().await?;
    let sandbox = c.fresh(json!({})).await?;
    let health = || sandbox.port(&c, Method::GET, AGENT, "/health");
    c.send(health())
        .await?
        .status(204)
        .map_err(|stop| stop.blocks("the agent was not reached before"))?;
    c.delete(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .one_of(&[200, 204])?;
    let reply = c.send(health()).await?;
    equal("status of GET /health", &reply.status.as_u16(), &502)
}
