//! Lists and their filters.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, expect};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::encode::{metadata_filter, percent};
use crate::wire::reply::{number, text, time};

pub const CHECKS: &[Check] = &[
    Check::new(
        "lifecycle/list-v2",
        &["list-wrapped"],
        "GET /v2/sandboxes is a bare array.",
        |c| Box::pin(v2(c)),
    ),
    Check::new(
        "lifecycle/list-v1",
        &["list-v1-missing", "list-v1-wrapped"],
        "GET /sandboxes is a bare array.",
        |c| Box::pin(v1(c)),
    ),
    Check::new(
        "lifecycle/list-members",
        &["list-omits-disk-size"],
        "A listed sandbox has all members.",
        |c| Box::pin(members(c)),
    ),
    Check::new(
        "lifecycle/list-metadata",
        &["metadata-filter-ignored", "metadata-prefix-match"],
        "The metadata filter finds equal values only.",
        |c| Box::pin(by_metadata(c)),
    ),
    Check::new(
        "lifecycle/list-metadata-and",
        &["metadata-any"],
        "All pairs of the metadata filter must match.",
        |c| Box::pin(by_all_metadata(c)),
    ),
    Check::new(
        "lifecycle/list-metadata-encoding",
        &["metadata-decoded-twice"],
        "The metadata filter is decoded as SDKs encode it.",
        |c| Box::pin(encoding(c)),
    ),
    Check::new(
        "lifecycle/list-state",
        &["state-filter-ignored"],
        "The state filter holds.",
        |c| Box::pin(by_state(c)),
    ),
    Check::new(
        "lifecycle/list-started-after",
        &["started-after-ignored"],
        "`startedAfter` is inclusive, and a second later excludes.",
        |c| Box::pin(started_after(c)),
    ),
    Check::new(
        "lifecycle/list-template",
        &["template-filter-ignored"],
        "The template filter holds.",
        |c| Box::pin(by_template(c)),
    ),
    Check::new(
        "lifecycle/list-unknown-template",
        &["unknown-template-filter-404"],
        "An unknown template in the filter gives an empty list.",
        |c| Box::pin(unknown_template(c)),
    ),
    Check::new(
        "lifecycle/list-total",
        &["no-total-running"],
        "X-Total-Running counts the running sandboxes.",
        |c| Box::pin(total(c)),
    ),
];

/// The sandboxes of a filter.
async fn found(c: &Context, query: &str) -> Result<Vec<Value>, Stop> {
    c.get(&format!("/v2/sandboxes?{query}"))
        .await?
        .status(200)?
        .array()
}

fn has(items: &[Value], sandbox: &Sandbox) -> bool {
    items
        .iter()
        .any(|item| item["sandboxID"] == sandbox.id.as_str())
}

fn ids(items: &[Value]) -> String {
    let ids: Vec<&str> = items
        .iter()
        .filter_map(|item| item["sandboxID"].as_str())
        .collect();
    format!("{} sandboxes: {}", ids.len(), ids.join(", "))
}

/// A sandbox with a mark, and the filter for it.
async fn marked(c: &Context) -> Result<(Sandbox, String), Stop> {
    let mark = c.unique();
    let sandbox = c.fresh(json!({ "metadata": { "mark": mark } })).await?;
    Ok((
        sandbox,
        format!("metadata={}", metadata_filter(&[("mark", &mark)])),
    ))
}

async fn v2(c: Context) -> Verdict {
    let (sandbox, filter) = marked(&c).await?;
    let items = found(&c, &filter).await?;
    expect(
        has(&items, &sandbox),
        "the sandbox in the list",
        ids(&items),
    )
}

async fn v1(c: Context) -> Verdict {
    let (sandbox, _) = marked(&c).await?;
    let items = c.get("/sandboxes").await?.status(200)?.array()?;
    expect(
        has(&items, &sandbox),
        "the sandbox in the list",
        ids(&items),
    )
}

async fn members(c: Context) -> Verdict {
    let (_, filter) = marked(&c).await?;
    let items = found(&c, &filter).await?;
    let item = items.first().cloned().unwrap_or_default();
    for name in [
        "templateID",
        "sandboxID",
        "clientID",
        "state",
        "envdVersion",
    ] {
        text(&item, name)?;
    }
    for name in ["cpuCount", "memoryMB", "diskSizeMB"] {
        number(&item, name)?;
    }
    time(&item, "startedAt")?;
    time(&item, "endAt").map(|_| ())
}

async fn by_metadata(c: Context) -> Verdict {
    let mark = c.unique();
    let one = c.fresh(json!({ "metadata": { "mark": mark } })).await?;
    let other = c
        .fresh(json!({ "metadata": { "mark": format!("{mark}-longer") } }))
        .await?;
    let items = found(
        &c,
        &format!("metadata={}", metadata_filter(&[("mark", &mark)])),
    )
    .await?;
    expect(has(&items, &one), "the sandbox with the value", ids(&items))?;
    expect(
        !has(&items, &other) && items.len() == 1,
        "no other sandbox",
        ids(&items),
    )
}

async fn by_all_metadata(c: Context) -> Verdict {
    let mark = c.unique();
    let both = c
        .fresh(json!({ "metadata": { "mark": mark, "side": "left" } }))
        .await?;
    c.fresh(json!({ "metadata": { "mark": mark, "side": "right" } }))
        .await?;
    let filter = metadata_filter(&[("mark", &mark), ("side", "left")]);
    let items = found(&c, &format!("metadata={filter}")).await?;
    expect(
        has(&items, &both) && items.len() == 1,
        "only the sandbox with both values",
        ids(&items),
    )
}

async fn encoding(c: Context) -> Verdict {
    let value = format!("c&d=e %2B{}", c.unique());
    let sandbox = c.fresh(json!({ "metadata": { "a b": value } })).await?;
    let items = found(
        &c,
        &format!("metadata={}", metadata_filter(&[("a b", &value)])),
    )
    .await?;
    expect(
        has(&items, &sandbox),
        "the sandbox whose key and value have special characters",
        ids(&items),
    )
}

async fn by_state(c: Context) -> Verdict {
    let (sandbox, filter) = marked(&c).await?;
    let items = found(&c, &format!("{filter}&state=running")).await?;
    expect(
        has(&items, &sandbox),
        "the running sandbox under state=running",
        ids(&items),
    )?;
    let items = found(&c, &format!("{filter}&state=running,paused")).await?;
    expect(
        has(&items, &sandbox),
        "the running sandbox under state=running,paused",
        ids(&items),
    )?;
    let items = found(&c, &format!("{filter}&state=paused")).await?;
    expect(items.is_empty(), "nothing under state=paused", ids(&items))
}

async fn started_after(c: Context) -> Verdict {
    let (sandbox, filter) = marked(&c).await?;
    let detail = c
        .get(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .status(200)?
        .json()?;
    let started = time(&detail, "startedAt")?;
    let query =
        |moment: jiff::Timestamp| format!("{filter}&startedAfter={}", percent(&moment.to_string()));
    let items = found(&c, &query(started)).await?;
    expect(
        has(&items, &sandbox),
        "the sandbox, asked with its own start",
        ids(&items),
    )?;
    let later = started
        .checked_add(jiff::SignedDuration::from_secs(1))
        .unwrap_or(started);
    let items = found(&c, &query(later)).await?;
    expect(
        items.is_empty(),
        "nothing, asked with a second later",
        ids(&items),
    )
}

async fn by_template(c: Context) -> Verdict {
    let (sandbox, filter) = marked(&c).await?;
    let template = percent(c.target().template.split(':').next().unwrap_or(""));
    let items = found(&c, &format!("{filter}&template={template}")).await?;
    expect(
        has(&items, &sandbox),
        "the sandbox under its template",
        ids(&items),
    )?;
    let items = found(&c, &format!("{filter}&template=no-such-{}", c.unique())).await?;
    expect(
        items.is_empty(),
        "nothing under another template",
        ids(&items),
    )
}

async fn unknown_template(c: Context) -> Verdict {
    let items = found(&c, &format!("template=no-such-{}", c.unique())).await?;
    expect(items.is_empty(), "an empty list", ids(&items))
}

async fn total(c: Context) -> Verdict {
    let (_, filter) = marked(&c).await?;
    let reply = c.get(&format!("/v2/sandboxes?{filter}")).await?;
    let total = reply
        .status(200)?
        .header("x-total-running")
        .parse::<u64>()
        .unwrap_or(0);
    expect(
        total >= 1,
        "X-Total-Running of at least 1",
        format!("{:?}", reply.header("x-total-running")),
    )
}
