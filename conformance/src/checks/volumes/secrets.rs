//! Secrets.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::{Context, unique};
use crate::wire::encode::percent;
use crate::wire::reply::{Reply, text};

pub const CHECKS: &[Check] = &[
    Check::new(
        "volumes/secret-create",
        &["secret-value-given-back"],
        "A create answers 201 without the value.",
        |c| Box::pin(created(c)),
    ),
    Check::new(
        "volumes/secret-list",
        &["secrets-unlisted", "secret-value-given-back"],
        "Secrets are listed without values.",
        |c| Box::pin(list(c)),
    ),
    Check::new(
        "volumes/secret-update",
        &["secret-version-stays"],
        "An update makes a new version.",
        |c| Box::pin(update(c)),
    ),
    Check::new(
        "volumes/secret-delete",
        &["secret-delete-ignored"],
        "A delete answers 204, and the secret is gone.",
        |c| Box::pin(delete(c)),
    ),
    Check::new(
        "volumes/secret-bad-name",
        &["secret-any-name"],
        "A name of other characters is a 400.",
        |c| Box::pin(bad_name(c)),
    ),
];

async fn create(c: &Context, name: &str, value: &str) -> Result<Reply, Stop> {
    let body = json!({ "name": name, "value": value });
    c.post("/secrets", &body).await
}

/// A secret that a check needs: id, value and first version.
async fn secret(c: &Context) -> Result<(String, String, Value), Stop> {
    let blocked = |stop: Stop| stop.blocks("a secret could not be created");
    let value = format!("value-{}", unique());
    let reply = create(c, &format!("suite_{}", unique()), &value)
        .await
        .map_err(blocked)?;
    if !reply.status.is_success() {
        return Err(blocked(fail("a secret", reply.brief())));
    }
    let body = reply.json().map_err(blocked)?;
    let id = text(&body, "secretID").map_err(blocked)?;
    Ok((id, value, body["currentVersion"].clone()))
}

fn silent(reply: &Reply, value: &str) -> Verdict {
    expect(
        !reply.text().contains(value),
        "an answer without the value",
        "the value is in it",
    )
}

async fn created(c: Context) -> Verdict {
    let value = format!("value-{}", unique());
    let name = format!("suite_{}", unique());
    let reply = create(&c, &name, &value).await?;
    let body = reply.status(201)?.json()?;
    silent(&reply, &value)?;
    text(&body, "secretID")?;
    equal("name", &body["name"], &json!(name))
}

async fn list(c: Context) -> Verdict {
    let (id, value, _) = secret(&c).await?;
    let reply = c.get("/secrets").await?;
    let items = reply.status(200)?.array()?;
    silent(&reply, &value)?;
    expect(
        items.iter().any(|item| item["secretID"] == id.as_str()),
        format!("secret {id}"),
        reply.brief(),
    )
}

async fn update(c: Context) -> Verdict {
    let (id, _, first) = secret(&c).await?;
    let path = format!("/secrets/{}", percent(&id));
    let reply = c.post(&path, &json!({ "value": unique() })).await?;
    let body = reply.status(200)?.json()?;
    expect(
        !body["currentVersion"].is_null() && body["currentVersion"] != first,
        format!("another currentVersion than {first}"),
        body.to_string(),
    )
}

async fn delete(c: Context) -> Verdict {
    let (id, _, _) = secret(&c).await?;
    c.delete(&format!("/secrets/{}", percent(&id)))
        .await?
        .status(204)?;
    let items = c.get("/secrets").await?.status(200)?.array()?;
    expect(
        !items.iter().any(|item| item["secretID"] == id.as_str()),
        "the secret gone from the list",
        "it is there",
    )
}

async fn bad_name(c: Context) -> Verdict {
    for name in ["with space", "a/b", ""] {
        create(&c, name, "value").await?.refusal(400)?;
    }
    Ok(())
}
