//! Limits of a life, and two creates at once.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use jiff::Timestamp;
use serde_json::json;

use super::left;
use crate::check::{Check, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::wire::reply::{text, time};

pub const CHECKS: &[Check] = &[
    Check::new(
        "lifecycle/timeout-maximum",
        &["timeout-uncapped"],
        "A timeout beyond the account's maximum is capped.",
        |c| Box::pin(maximum(c)),
    ),
    Check::new(
        "lifecycle/refresh-default",
        &["refresh-default-hour"],
        "A refresh without duration prolongs by 15 seconds.",
        |c| Box::pin(refresh_default(c)),
    ),
    Check::new(
        "lifecycle/idempotency-in-progress",
        &["idempotency-doubles", "idempotency-in-progress-word"],
        "A create whose key is under way is refused with idempotency_in_progress.",
        |c| Box::pin(in_progress(c)),
    ),
];

/// Seconds that are beyond any account's maximum: about 63 years.
const FAR: i64 = 2_000_000_000;

async fn maximum(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let path = format!("/sandboxes/{}/timeout", sandbox.id);
    let reply = c.post(&path, &json!({ "timeout": FAR })).await?;
    reply.status(204)?;
    let left = left(&c, &sandbox.id).await?;
    // What the maximum is only the target knows; that there is one shows.
    expect(
        left < FAR / 2,
        "an end far before the one asked for",
        format!("in {left} s"),
    )
}

async fn refresh_default(c: Context) -> Verdict {
    let seconds = c.limit(2.0).as_secs().clamp(2, 12);
    let sandbox = c.fresh(json!({ "timeout": seconds })).await?;
    let path = format!("/sandboxes/{}", sandbox.id);
    let end = || async {
        let detail = c.get(&path).await?.status(200)?.json()?;
        time(&detail, "endAt")
    };
    let before = end().await?;
    // From now on a refresh is certain to prolong.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let body = json!({});
    let refreshed = c.post(&format!("{path}/refreshes"), &body).await?;
    refreshed.status(204)?;
    let after = end().await?;
    let left = after.as_second() - Timestamp::now().as_second();
    expect(
        after > before && left <= 15,
        "an end in 15 s, later than before",
        format!("in {left} s, before {before}, after {after}"),
    )
}

async fn in_progress(c: Context) -> Verdict {
    let key = format!("conformance-{}", c.unique());
    let body = c.body(json!({ "timeout": 60 }));
    let create = || {
        let request = c.api(Method::POST, "/v2/sandboxes").json(&body);
        c.send(request.header("idempotency-key", key.clone()))
    };
    let replies = join_all([create(), create(), create()]).await;
    let mut made = Vec::new();
    let mut refused = 0;
    for reply in replies {
        let reply = reply?;
        if reply.status.as_u16() == 201 {
            made.push(text(&reply.json()?, "sandboxID")?);
            continue;
        }
        let refusal = reply.refusal(409)?;
        let word = &refusal["error_code"];
        equal("error_code", word, &json!("idempotency_in_progress"))?;
        refused += 1;
    }
    made.sort();
    made.dedup();
    equal("sandboxes made", &made.len(), &1)?;
    if refused == 0 {
        return Err(fail("a refusal of the second create", "none"));
    }
    Ok(())
}
