//! Connecting to a running sandbox.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::wire::reply::{text, time};

pub const CHECKS: &[Check] = &[
    Check::new(
        "lifecycle/connect-v2",
        &["connect-running-201"],
        "Connecting to a running sandbox answers 200.",
        |c| Box::pin(v2(c)),
    ),
    Check::new(
        "lifecycle/connect-empty-body",
        &["connect-needs-timeout"],
        "Connect takes `{}`.",
        |c| Box::pin(empty_body(c)),
    ),
    Check::new(
        "lifecycle/connect-only-extends",
        &["connect-shortens", "connect-rounds-end"],
        "Connect never shortens: endAt stays as it is, byte for byte.",
        |c| Box::pin(only_extends(c)),
    ),
    Check::new(
        "lifecycle/connect-extends",
        &["connect-never-extends"],
        "Connect prolongs when its timeout is longer.",
        |c| Box::pin(extends(c)),
    ),
    Check::new(
        "lifecycle/connect-token",
        &["connect-new-token"],
        "Connect gives the token of the create.",
        |c| Box::pin(token(c)),
    ),
    Check::new(
        "lifecycle/connect-v1",
        &["connect-v1-missing"],
        "The first version of connect works.",
        |c| Box::pin(v1(c)),
    ),
    Check::new(
        "lifecycle/connect-v1-timeout",
        &["connect-v1-timeout-optional"],
        "The first version of connect asks for a timeout.",
        |c| Box::pin(v1_timeout(c)),
    ),
    Check::new(
        "lifecycle/connect-negative",
        &["connect-negative-accepted"],
        "Connect refuses a negative timeout.",
        |c| Box::pin(negative(c)),
    ),
    Check::new(
        "lifecycle/connect-killed",
        &["killed-still-there"],
        "Connecting to a killed sandbox is a 404.",
        |c| Box::pin(killed(c)),
    ),
];

async fn end(c: &Context, id: &str) -> Result<String, Stop> {
    text(
        &c.get(&format!("/sandboxes/{id}"))
            .await?
            .status(200)?
            .json()?,
        "endAt",
    )
}

async fn connected(c: &Context, id: &str, body: Value) -> Result<Value, Stop> {
    c.post(&format!("/v2/sandboxes/{id}/connect"), &body)
        .await?
        .one_of(&[200, 201])?
        .json()
}

async fn v2(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let path = format!("/v2/sandboxes/{}/connect", sandbox.id);
    let body = c
        .post(&path, &json!({ "timeout": 60 }))
        .await?
        .status(200)?
        .json()?;
    equal("sandboxID", &body["sandboxID"], &json!(sandbox.id))
}

async fn empty_body(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    connected(&c, &sandbox.id, json!({})).await.map(|_| ())
}

async fn only_extends(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({ "timeout": 600 })).await?;
    let before = end(&c, &sandbox.id).await?;
    connected(&c, &sandbox.id, json!({ "timeout": 30 })).await?;
    equal("endAt", &end(&c, &sandbox.id).await?, &before)
}

async fn extends(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({ "timeout": 100 })).await?;
    connected(&c, &sandbox.id, json!({ "timeout": 1_000 })).await?;
    let detail = c
        .get(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .status(200)?
        .json()?;
    let left = time(&detail, "endAt")?.as_second() - Timestamp::now().as_second();
    expect(left > 800, "an end in about 1000 s", format!("in {left} s"))
}

async fn token(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let body = connected(&c, &sandbox.id, json!({ "timeout": 60 })).await?;
    let same = body["envdAccessToken"].as_str() == sandbox.token.as_deref();
    expect(same, "the same envdAccessToken", "another one, or none")
}

async fn v1(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let path = format!("/sandboxes/{}/connect", sandbox.id);
    let body = c
        .post(&path, &json!({ "timeout": 60 }))
        .await?
        .one_of(&[200, 201])?
        .json()?;
    equal("sandboxID", &body["sandboxID"], &json!(sandbox.id))
}

async fn v1_timeout(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    c.post(&format!("/sandboxes/{}/connect", sandbox.id), &json!({}))
        .await?
        .refusal(400)
        .map(|_| ())
}

async fn negative(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let path = format!("/v2/sandboxes/{}/connect", sandbox.id);
    c.post(&path, &json!({ "timeout": -5 }))
        .await?
        .refusal(400)
        .map(|_| ())
}

async fn killed(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    c.delete(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .one_of(&[200, 204])?;
    let path = format!("/v2/sandboxes/{}/connect", sandbox.id);
    c.post(&path, &json!({})).await?.refusal(404).map(|_| ())
}
