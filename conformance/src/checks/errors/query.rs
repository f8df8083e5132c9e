//! Queries that must be refused.

use serde_json::json;

use crate::check::{Check, Stop, Verdict};
use crate::context::Context;
use crate::wire::encode::{metadata_filter, percent};

pub const CHECKS: &[Check] = &[
    Check::new(
        "errors/limit-range",
        &["limit-zero-accepted", "limit-101-accepted"],
        "`limit` outside 1 to 100 is a 400.",
        |c| Box::pin(limit(c)),
    ),
    Check::new(
        "errors/next-token",
        &["bad-next-token-ignored"],
        "A made-up nextToken is a 400.",
        |c| Box::pin(next_token(c)),
    ),
    Check::new(
        "errors/state-value",
        &["bad-state-accepted"],
        "An unknown state is a 400.",
        |c| Box::pin(state(c)),
    ),
    Check::new(
        "errors/started-after-value",
        &["bad-started-after-accepted"],
        "A startedAfter that is no time is a 400.",
        |c| Box::pin(started_after(c)),
    ),
    Check::new(
        "errors/template-filter-tag",
        &["tag-in-filter-accepted"],
        "A tag in the template filter is a 400.",
        |c| Box::pin(template_tag(c)),
    ),
    Check::new(
        "errors/token-of-other-order",
        &["token-of-any-order"],
        "A nextToken of the other order is a 400.",
        |c| Box::pin(other_order(c)),
    ),
];

async fn refused(c: &Context, query: &str) -> Verdict {
    c.get(&format!("/v2/sandboxes?{query}"))
        .await?
        .refusal(400)
        .map(|_| ())
}

async fn limit(c: Context) -> Verdict {
    refused(&c, "limit=0").await?;
    refused(&c, "limit=101").await?;
    refused(&c, "limit=-1").await?;
    refused(&c, "limit=many").await
}

async fn next_token(c: Context) -> Verdict {
    refused(&c, "nextToken=this-is-no-token").await
}

async fn state(c: Context) -> Verdict {
    refused(&c, "state=sleeping").await
}

async fn started_after(c: Context) -> Verdict {
    refused(&c, "startedAfter=yesterday").await
}

async fn template_tag(c: Context) -> Verdict {
    refused(&c, "template=base%3Adefault").await
}

async fn other_order(c: Context) -> Verdict {
    let mark = c.unique();
    for _ in 0..2 {
        c.fresh(json!({ "metadata": { "mark": mark } })).await?;
    }
    let filter = metadata_filter(&[("mark", &mark)]);
    let path = format!("/v2/sandboxes?limit=1&order=asc&metadata={filter}");
    let reply = c.get(&path).await?;
    let token = reply.status(200)?.header("x-next-token").to_owned();
    if token.is_empty() {
        return Err(Stop::Untestable("the first page has no token".to_owned()));
    }
    let token = percent(&token);
    let query = format!("limit=1&order=desc&nextToken={token}&metadata={filter}");
    refused(&c, &query).await
}
