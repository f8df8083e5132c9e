//! Pages and order of lists.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::wire::encode::{metadata_filter, percent};

pub const CHECKS: &[Check] = &[
    Check::new(
        "lifecycle/page-limit",
        &["limit-ignored"],
        "A page holds at most `limit` sandboxes.",
        |c| Box::pin(limit(c)),
    ),
    Check::new(
        "lifecycle/page-token",
        &["no-next-token", "page-repeats"],
        "X-Next-Token leads through all sandboxes, each once.",
        |c| Box::pin(token(c)),
    ),
    Check::new(
        "lifecycle/page-last",
        &["token-on-last-page"],
        "The last page has no X-Next-Token.",
        |c| Box::pin(last(c)),
    ),
    Check::new(
        "lifecycle/newest-first",
        &["oldest-first"],
        "Lists begin with the newest sandbox.",
        |c| Box::pin(newest_first(c)),
    ),
    Check::new(
        "lifecycle/order-asc",
        &["order-ignored"],
        "`order=asc` begins with the oldest sandbox.",
        |c| Box::pin(ascending(c)),
    ),
];

/// Two sandboxes, the older first, and the filter for both.
async fn two(c: &Context) -> Result<(String, String, String), Stop> {
    let mark = c.unique();
    let older = c.fresh(json!({ "metadata": { "mark": mark } })).await?;
    // So that the starts differ at any resolution of the clock.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let newer = c.fresh(json!({ "metadata": { "mark": mark } })).await?;
    Ok((
        older.id,
        newer.id,
        format!("metadata={}", metadata_filter(&[("mark", &mark)])),
    ))
}

fn ids(items: &[Value]) -> Vec<String> {
    items
        .iter()
        .filter_map(|item| item["sandboxID"].as_str())
        .map(str::to_owned)
        .collect()
}

async fn page(c: &Context, query: &str) -> Result<(Vec<String>, String), Stop> {
    let reply = c.get(&format!("/v2/sandboxes?{query}")).await?;
    let items = reply.status(200)?.array()?;
    Ok((ids(&items), reply.header("x-next-token").to_owned()))
}

async fn limit(c: Context) -> Verdict {
    let (_, _, filter) = two(&c).await?;
    let (items, _) = page(&c, &format!("{filter}&limit=1")).await?;
    expect(items.len() == 1, "one sandbox", format!("{items:?}"))
}

async fn token(c: Context) -> Verdict {
    let (older, newer, filter) = two(&c).await?;
    let (first, token) = page(&c, &format!("{filter}&limit=1")).await?;
    expect(
        !token.is_empty(),
        "X-Next-Token on the first of two pages",
        "none",
    )?;
    let (second, _) = page(
        &c,
        &format!("{filter}&limit=1&nextToken={}", percent(&token)),
    )
    .await?;
    equal(
        "the sandboxes of both pages",
        &[first, second].concat(),
        &vec![newer, older],
    )
}

async fn last(c: Context) -> Verdict {
    let (_, _, filter) = two(&c).await?;
    let (items, token) = page(&c, &format!("{filter}&limit=2")).await?;
    expect(
        items.len() == 2 && token.is_empty(),
        "both sandboxes and no token",
        format!("{items:?} and {token:?}"),
    )
}

async fn newest_first(c: Context) -> Verdict {
    let (older, newer, filter) = two(&c).await?;
    let (items, _) = page(&c, &filter).await?;
    equal("the order", &items, &vec![newer, older])
}

async fn ascending(c: Context) -> Verdict {
    let (older, newer, filter) = two(&c).await?;
    let (items, _) = page(&c, &format!("{filter}&order=asc")).await?;
    equal("the order", &items, &vec![older, newer])
}
