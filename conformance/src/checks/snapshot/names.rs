//! Names of snapshots.

use serde_json::{Value, json};

use super::{from, snapshot, take};
use crate::check::{Check, Verdict, equal, expect, fail};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "snapshot/named",
        &["snapshot-name-dropped"],
        "A name given is among the snapshot's names.",
        |c| Box::pin(named(c)),
    ),
    Check::new(
        "snapshot/renamed",
        &["snapshot-name-keeps-first"],
        "A name used again leads to the newer snapshot.",
        |c| Box::pin(renamed(c)),
    ),
    Check::new(
        "snapshot/bad-name",
        &["snapshot-any-name"],
        "A name of other characters is a 400.",
        |c| Box::pin(bad_name(c)),
    ),
    Check::new(
        "snapshot/namespace",
        &["snapshot-namespace-refused"],
        "A template may be named with its namespace.",
        |c| Box::pin(namespace(c)),
    ),
];

/// Whether a name as shown is this one: with or without namespace and tag.
fn is_called(shown: &Value, name: &str) -> bool {
    let shown = shown.as_str().unwrap_or("");
    let bare = shown.rsplit('/').next().unwrap_or(shown);
    bare.split(':').next() == Some(name)
}

async fn named(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let name = format!("conformance-{}", c.unique());
    let reply = take(&c, &sandbox.id, &json!({ "name": name })).await?;
    let body = reply.one_of(&[200, 201])?.json()?;
    let names = body["names"].as_array().cloned().unwrap_or_default();
    expect(
        names.iter().any(|shown| is_called(shown, &name)),
        format!("{name} among the names"),
        format!("{names:?}"),
    )
}

async fn renamed(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let name = format!("conformance-{}", c.unique());
    for content in ["older", "newer"] {
        sandbox
            .put(&c, "/home/user/kept", content.as_bytes())
            .await?;
        snapshot(&c, &sandbox, &json!({ "name": name })).await?;
    }
    let clone = from(&c, &name).await?;
    let file = clone.read_file(&c, "/home/user/kept").await?;
    equal("content", file.status(200)?.text().as_str(), "newer")
}

async fn bad_name(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let reply = take(&c, &sandbox.id, &json!({ "name": "not a name!" })).await?;
    reply.refusal(400).map(|_| ())
}

async fn namespace(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let name = format!("conformance-{}", c.unique());
    let reply = take(&c, &sandbox.id, &json!({ "name": name })).await?;
    let body = reply.one_of(&[200, 201])?.json()?;
    let names = body["names"].as_array().cloned().unwrap_or_default();
    let full = names
        .iter()
        .filter_map(Value::as_str)
        .find(|shown| shown.contains('/'));
    let Some(full) = full else {
        return Err(fail("a name with its namespace", format!("{names:?}")));
    };
    from(&c, full).await.map(|_| ())
}
