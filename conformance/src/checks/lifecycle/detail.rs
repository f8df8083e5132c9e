//! One sandbox in full.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::wire::reply::{number, text, time};

pub const CHECKS: &[Check] = &[
    Check::new(
        "lifecycle/detail-members",
        &["detail-omits-end-at", "cpu-count-as-text"],
        "A sandbox's detail has all members, each of its type.",
        |c| Box::pin(members(c)),
    ),
    Check::new(
        "lifecycle/detail-running",
        &["state-started"],
        "A new sandbox's state is `running`.",
        |c| Box::pin(running(c)),
    ),
    Check::new(
        "lifecycle/detail-metadata",
        &["metadata-dropped"],
        "Metadata comes back as it was given.",
        |c| Box::pin(metadata(c)),
    ),
    Check::new(
        "lifecycle/detail-times",
        &["times-as-unix", "end-is-start"],
        "Times are RFC 3339, the end after the start.",
        |c| Box::pin(times(c)),
    ),
    Check::new(
        "lifecycle/detail-lifecycle",
        &["lifecycle-on-timeout-stop"],
        "`lifecycle` says what happens at the end.",
        |c| Box::pin(lifecycle(c)),
    ),
    Check::new(
        "lifecycle/detail-old-id",
        &["suffix-not-stripped"],
        "An id with `-clientID` behind it is understood.",
        |c| Box::pin(old_id(c)),
    ),
    Check::new(
        "lifecycle/detail-unknown",
        &["missing-410"],
        "An unknown sandbox is a 404.",
        |c| Box::pin(unknown(c)),
    ),
];

async fn detail(c: &Context, id: &str) -> Result<Value, Stop> {
    c.get(&format!("/sandboxes/{id}"))
        .await?
        .status(200)?
        .json()
}

async fn members(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let body = detail(&c, &sandbox.id).await?;
    for name in [
        "templateID",
        "sandboxID",
        "clientID",
        "startedAt",
        "endAt",
        "state",
        "envdVersion",
    ] {
        text(&body, name)?;
    }
    for name in ["cpuCount", "memoryMB", "diskSizeMB"] {
        let whole = body[name].as_u64().is_some();
        expect(
            whole,
            format!("member `{name}` as a whole number"),
            body[name].to_string(),
        )?;
    }
    equal("sandboxID", &body["sandboxID"], &json!(sandbox.id))
}

async fn running(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    equal(
        "state",
        &detail(&c, &sandbox.id).await?["state"],
        &json!("running"),
    )
}

async fn metadata(c: Context) -> Verdict {
    let mark = c.unique();
    let sandbox = c
        .fresh(json!({ "metadata": { "mark": mark, "ä ö": "a=b&c" } }))
        .await?;
    let body = detail(&c, &sandbox.id).await?;
    equal("metadata.mark", &body["metadata"]["mark"], &json!(mark))?;
    equal(
        "a value with special characters",
        &body["metadata"]["ä ö"],
        &json!("a=b&c"),
    )
}

async fn times(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let body = detail(&c, &sandbox.id).await?;
    let (start, end) = (time(&body, "startedAt")?, time(&body, "endAt")?);
    expect(
        end > start,
        "endAt after startedAt",
        format!("{start} and {end}"),
    )
}

async fn lifecycle(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let body = detail(&c, &sandbox.id).await?;
    match &body["lifecycle"] {
        Value::Null => Ok(()),
        lifecycle => {
            equal(
                "lifecycle.onTimeout",
                &lifecycle["onTimeout"],
                &json!("kill"),
            )?;
            equal(
                "lifecycle.autoResume",
                &lifecycle["autoResume"],
                &json!(false),
            )
        }
    }
}

async fn old_id(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let body = detail(&c, &format!("{}-{}", sandbox.id, sandbox.client)).await?;
    let id = text(&body, "sandboxID")?;
    expect(id.starts_with(&sandbox.id), "the same sandbox", id)
}

async fn unknown(c: Context) -> Verdict {
    let reply = c.get(&format!("/sandboxes/i{}", c.unique())).await?;
    reply.refusal(404).map(|_| ()).map_err(|stop| match stop {
        Stop::Fail { actual, .. } => fail("404 with the standard error body", actual),
        other => other,
    })?;
    number(&reply.json()?, "code").map(|_| ())
}
