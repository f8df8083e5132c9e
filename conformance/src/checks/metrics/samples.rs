//! Samples of what a sandbox uses.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::wire::reply::{number, time};

pub const CHECKS: &[Check] = &[
    Check::new(
        "metrics/samples",
        &["metrics-wrapped", "metrics-without-disk"],
        "Metrics are an array of samples with all members.",
        |c| Box::pin(samples(c)),
    )
    .slow(),
    Check::new(
        "metrics/first",
        &["metrics-never"],
        "The first sample is there within 30 seconds.",
        |c| Box::pin(first(c)),
    )
    .slow(),
    Check::new(
        "metrics/window",
        &["metrics-start-ignored"],
        "A window after all samples is empty, one around them is not.",
        |c| Box::pin(window(c)),
    )
    .slow(),
    Check::new(
        "metrics/window-before",
        &["metrics-end-ignored"],
        "A window before the create is empty.",
        |c| Box::pin(before(c)),
    )
    .slow(),
    Check::new(
        "metrics/unknown",
        &["metrics-of-missing-empty"],
        "Metrics of an unknown sandbox are a 404.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "metrics/totals",
        &["metrics-of-host"],
        "cpuCount and memTotal are the sandbox's.",
        |c| Box::pin(totals(c)),
    )
    .slow(),
    Check::new(
        "metrics/many",
        &["metrics-of-first-only"],
        "GET /sandboxes/metrics gives the newest sample of each sandbox.",
        |c| Box::pin(many(c)),
    )
    .slow(),
    Check::new(
        "metrics/too-many",
        &["metrics-101-accepted"],
        "More than 100 ids are a 400.",
        |c| Box::pin(too_many(c)),
    ),
];

/// Seconds in which the first sample must be there.
const FIRST: f64 = 30.0;

async fn ask(c: &Context, id: &str, query: &str) -> Result<Vec<Value>, Stop> {
    let reply = c.get(&format!("/sandboxes/{id}/metrics{query}")).await?;
    reply.status(200)?.array()
}

/// The samples of the shared sandbox, when there are some.
async fn some(c: &Context) -> Result<(String, Vec<Value>), Stop> {
    let sandbox = c.shared().await?;
    let there = || async {
        let samples = ask(c, &sandbox.id, "").await?;
        Ok((!samples.is_empty()).then_some(samples))
    };
    let samples = c.eventually("a sample", c.limit(FIRST), there).await?;
    Ok((sandbox.id, samples))
}

async fn samples(c: Context) -> Verdict {
    let (_, samples) = some(&c).await?;
    let sample = samples.last().cloned().unwrap_or_default();
    let at = time(&sample, "timestamp")?.as_second();
    let unix = sample["timestampUnix"].as_i64();
    equal("timestampUnix", &unix, &Some(at))?;
    for name in [
        "cpuCount",
        "memUsed",
        "memTotal",
        "memCache",
        "diskUsed",
        "diskTotal",
    ] {
        number(&sample, name)?;
    }
    expect(
        sample["cpuUsedPct"].is_number(),
        "member `cpuUsedPct` as a number",
        sample.to_string(),
    )
}

async fn first(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let there = || async {
        let samples = ask(&c, &sandbox.id, "").await?;
        Ok((!samples.is_empty()).then_some(()))
    };
    c.eventually("a sample", c.limit(FIRST), there).await
}

async fn window(c: Context) -> Verdict {
    let (id, samples) = some(&c).await?;
    let last = samples.last().cloned().unwrap_or_default();
    let at = time(&last, "timestamp")?.as_second();
    let around = ask(&c, &id, &format!("?start={}&end={}", at - 60, at + 60)).await?;
    expect(
        around.iter().any(|sample| sample["timestampUnix"] == at),
        format!("the sample of {at} in a window of a minute around it"),
        format!("{} others", around.len()),
    )?;
    let later = Timestamp::now().as_second().max(at) + 3_600;
    let after = ask(&c, &id, &format!("?start={later}&end={}", later + 60)).await?;
    expect(after.is_empty(), "no sample", format!("{}", after.len()))
}

async fn before(c: Context) -> Verdict {
    let (id, _) = some(&c).await?;
    let now = Timestamp::now().as_second();
    let query = format!("?start={}&end={}", now - 900_000, now - 800_000);
    let samples = ask(&c, &id, &query).await?;
    expect(
        samples.is_empty(),
        "no sample of a time before the create",
        format!("{}", samples.len()),
    )
}

async fn unknown(c: Context) -> Verdict {
    let path = format!("/sandboxes/i{}/metrics", c.unique());
    c.get(&path).await?.refusal(404).map(|_| ())
}

async fn totals(c: Context) -> Verdict {
    let (id, samples) = some(&c).await?;
    let sample = samples.last().cloned().unwrap_or_default();
    let detail = c
        .get(&format!("/sandboxes/{id}"))
        .await?
        .status(200)?
        .json()?;
    equal(
        "cpuCount",
        &number(&sample, "cpuCount")?,
        &number(&detail, "cpuCount")?,
    )?;
    let whole = number(&detail, "memoryMB")?.saturating_mul(1_048_576);
    let total = number(&sample, "memTotal")?;
    // The kernel keeps some of its memory for itself.
    expect(
        total <= whole && total >= whole / 2,
        format!("memTotal a little below {whole}"),
        total.to_string(),
    )
}

async fn many(c: Context) -> Verdict {
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(c.fresh(json!({})).await?.id);
    }
    let path = format!("/sandboxes/metrics?sandbox_ids={}", ids.join(","));
    let there = || async {
        let body = c.get(&path).await?.status(200)?.json()?;
        if !body["sandboxes"].is_object() {
            return Err(fail("member `sandboxes` as an object", body.to_string()));
        }
        let all = ids.iter().all(|id| body["sandboxes"][id].is_object());
        Ok(all.then_some(body))
    };
    let body = c
        .eventually("a sample of each sandbox", c.limit(FIRST), there)
        .await?;
    for id in &ids {
        time(&body["sandboxes"][id], "timestamp")?;
    }
    Ok(())
}

async fn too_many(c: Context) -> Verdict {
    let ids: Vec<String> = (0..101).map(|_| format!("i{}", c.unique())).collect();
    let path = format!("/sandboxes/metrics?sandbox_ids={}", ids.join(","));
    c.get(&path).await?.refusal(400).map(|_| ())
}
