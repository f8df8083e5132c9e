//! How long sandboxes live.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::json;

use crate::check::{Check, Stop, Verdict, expect};
use crate::context::Context;
use crate::wire::reply::time;

pub const CHECKS: &[Check] = &[
    Check::new(
        "lifecycle/timeout-204",
        &["timeout-200"],
        "Setting the timeout answers 204.",
        |c| Box::pin(answers(c)),
    ),
    Check::new(
        "lifecycle/timeout-from-now",
        &["timeout-adds"],
        "A timeout counts from now.",
        |c| Box::pin(from_now(c)),
    ),
    Check::new(
        "lifecycle/timeout-shortens",
        &["timeout-only-extends"],
        "A timeout may shorten a life.",
        |c| Box::pin(shortens(c)),
    ),
    Check::new(
        "lifecycle/timeout-zero",
        &["timeout-zero-refused"],
        "A timeout of 0 ends the sandbox now.",
        |c| Box::pin(zero(c)),
    ),
    Check::new(
        "lifecycle/timeout-unknown",
        &["timeout-of-missing-204"],
        "The timeout of an unknown sandbox is a 404.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "lifecycle/timeout-body",
        &["set-timeout-optional", "set-negative-timeout-accepted"],
        "A timeout must be said, and not be negative.",
        |c| Box::pin(body(c)),
    ),
    Check::new(
        "lifecycle/expiry",
        &["never-expires"],
        "A sandbox is gone when its time is over, and not before.",
        |c| Box::pin(expiry(c)),
    )
    .slow(),
    Check::new(
        "lifecycle/refresh",
        &["refresh-missing", "refresh-never-extends"],
        "A refresh prolongs a life.",
        |c| Box::pin(refresh(c)),
    ),
    Check::new(
        "lifecycle/refresh-only-extends",
        &["refresh-shortens"],
        "A refresh never shortens a life.",
        |c| Box::pin(refresh_only_extends(c)),
    ),
    Check::new(
        "lifecycle/refresh-unknown",
        &["refresh-of-missing-204"],
        "A refresh of an unknown sandbox is a 404.",
        |c| Box::pin(refresh_unknown(c)),
    ),
];

/// Seconds until the sandbox's end, by the clock of this machine.
pub async fn left(c: &Context, id: &str) -> Result<i64, Stop> {
    let detail = c
        .get(&format!("/sandboxes/{id}"))
        .await?
        .status(200)?
        .json()?;
    Ok(time(&detail, "endAt")?.as_second() - Timestamp::now().as_second())
}

/// The end must be in about so many seconds.
pub fn about(c: &Context, actual: i64, wanted: i64) -> Verdict {
    // Clocks differ, and slow targets answer late.
    let slack = 15 + i64::try_from(c.limit(1.0).as_secs()).unwrap_or(0);
    expect(
        (actual - wanted).abs() <= slack,
        format!("an end in {wanted} s (±{slack})"),
        format!("in {actual} s"),
    )
}

async fn set(c: &Context, id: &str, seconds: i64) -> Verdict {
    let reply = c
        .post(
            &format!("/sandboxes/{id}/timeout"),
            &json!({ "timeout": seconds }),
        )
        .await?;
    reply.one_of(&[200, 204]).map(|_| ())
}

async fn answers(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let reply = c
        .post(
            &format!("/sandboxes/{}/timeout", sandbox.id),
            &json!({ "timeout": 120 }),
        )
        .await?;
    reply.status(204).map(|_| ())
}

async fn from_now(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({ "timeout": 200 })).await?;
    set(&c, &sandbox.id, 500).await?;
    about(&c, left(&c, &sandbox.id).await?, 500)
}

async fn shortens(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({ "timeout": 1_000 })).await?;
    set(&c, &sandbox.id, 100).await?;
    about(&c, left(&c, &sandbox.id).await?, 100)
}

async fn gone(c: &Context, id: &str) -> Result<Option<()>, Stop> {
    let reply = c.get(&format!("/sandboxes/{id}")).await?;
    Ok((reply.one_of(&[200, 404])?.status.as_u16() == 404).then_some(()))
}

async fn zero(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    set(&c, &sandbox.id, 0).await?;
    c.eventually("a 404", c.limit(5.0), || gone(&c, &sandbox.id))
        .await
}

async fn unknown(c: Context) -> Verdict {
    let path = format!("/sandboxes/i{}/timeout", c.unique());
    c.post(&path, &json!({ "timeout": 60 }))
        .await?
        .refusal(404)
        .map(|_| ())
}

async fn body(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let path = format!("/sandboxes/{}/timeout", sandbox.id);
    c.post(&path, &json!({})).await?.refusal(400)?;
    c.post(&path, &json!({ "timeout": -1 }))
        .await?
        .refusal(400)
        .map(|_| ())
}

async fn expiry(c: Context) -> Verdict {
    let seconds = c.limit(2.0).as_secs().max(2);
    let since = Instant::now();
    let sandbox = c.fresh(json!({ "timeout": seconds })).await?;
    let answered = Instant::now();
    c.eventually("a 404", c.limit(10.0), || gone(&c, &sandbox.id))
        .await?;
    // Its life began somewhere between the create's request and its answer.
    let lived = since.elapsed().as_secs_f64();
    let early = lived + 0.5 < std::time::Duration::from_secs(seconds).as_secs_f64();
    expect(
        !early,
        format!("at least {seconds} s of life"),
        format!("{lived:.1} s"),
    )?;
    let late = answered.elapsed().as_secs_f64();
    let most = std::time::Duration::from_secs(seconds).as_secs_f64() + c.limit(5.0).as_secs_f64();
    expect(
        late <= most,
        format!("at most {most:.0} s"),
        format!("{late:.1} s"),
    )
}

async fn refresh(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({ "timeout": 100 })).await?;
    let reply = c
        .post(
            &format!("/sandboxes/{}/refreshes", sandbox.id),
            &json!({ "duration": 600 }),
        )
        .await?;
    reply.status(204)?;
    about(&c, left(&c, &sandbox.id).await?, 600)
}

async fn refresh_only_extends(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({ "timeout": 600 })).await?;
    let reply = c
        .post(
            &format!("/sandboxes/{}/refreshes", sandbox.id),
            &json!({ "duration": 20 }),
        )
        .await?;
    reply.status(204)?;
    about(&c, left(&c, &sandbox.id).await?, 600)
}

async fn refresh_unknown(c: Context) -> Verdict {
    let path = format!("/sandboxes/i{}/refreshes", c.unique());
    c.post(&path, &json!({ "duration": 60 }))
        .await?
        .refusal(404)
        .map(|_| ())
}
