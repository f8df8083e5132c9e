//! The routes for cells, and what they refuse.

use std::time::Duration;

use ::http::Method;
use serde_json::json;

use super::{begun, cell, context, delete, execute, first, inside, ran, request, says};
use crate::check::{Check, Verdict, expect, fail};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "interpreter/health",
        &["interpreter-health-500"],
        "GET /health answers 200.",
        |c| Box::pin(health(c)),
    ),
    Check::new(
        "interpreter/execute",
        &["execute-without-newlines"],
        "POST /execute answers 200 with one JSON object per line.",
        |c| Box::pin(executes(c)),
    ),
    Check::new(
        "interpreter/nulls",
        &["cell-nulls-refused"],
        "Optional members of /execute may be null.",
        |c| Box::pin(nulls(c)),
    ),
    Check::new(
        "interpreter/both",
        &["cell-both-accepted"],
        "Both context_id and language is a 400.",
        |c| Box::pin(both(c)),
    ),
    Check::new(
        "interpreter/unknown-context",
        &["cell-unknown-context-200"],
        "An unknown context is a 404.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "interpreter/abort",
        &["cell-abort-ignored"],
        "A client that disconnects interrupts its cell.",
        |c| Box::pin(abort(c)),
    ),
];

async fn health(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let request = request(&c, &sandbox, Method::GET, "/health");
    c.send(request).await?.status(200).map(|_| ())
}

async fn executes(c: Context) -> Verdict {
    let events = cell(&c, "print(\"one\")\n1 + 1").await?;
    let objects = events.iter().all(|event| event["type"].is_string());
    expect(
        objects && events.len() >= 3,
        "a JSON object with `type` in each line",
        super::shown(&events),
    )
}

async fn nulls(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let body =
        json!({ "code": "print(\"on\")", "context_id": null, "language": null, "env_vars": null });
    says(&ran(&c, &sandbox, &body).await?, "on")
}

async fn both(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let body = json!({ "code": "1", "context_id": c.unique(), "language": "python" });
    let request = execute(&c, &sandbox, &body);
    c.send(request).await?.status(400).map(|_| ())
}

async fn unknown(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let body = json!({ "code": "1", "context_id": c.unique() });
    let request = execute(&c, &sandbox, &body);
    c.send(request).await?.status(404).map(|_| ())
}

async fn abort(c: Context) -> Verdict {
    let sandbox = c.interpreter().await?;
    let id = context(&c, &sandbox, &json!({})).await?;
    let wait = c.limit(60.0).as_secs();
    let code = format!("import time\nprint(\"begun\")\ntime.sleep({wait})");
    let mut lines = begun(&c, &sandbox, &json!({ "code": code, "context_id": id })).await?;
    loop {
        match lines.value(c.usual()).await? {
            Some(event) if event["type"] == "stdout" => break,
            Some(_) => {}
            None => return Err(fail("a cell that goes on", "it ended")),
        }
    }
    drop(lines);
    let next = inside(&c, &sandbox, &id, "print(\"next\")");
    let next = tokio::time::timeout(c.limit(8.0), next).await;
    let verdict = match next {
        Ok(events) => events.and_then(|events| first(&events, "stdout").map(|_| ())),
        Err(_) => Err(fail(
            "the next cell at once",
            format!("none within {:?}", c.limit(8.0)),
        )),
    };
    // A cell that was not interrupted holds its context up.
    let deleted = delete(&c, &sandbox, &id);
    let _ = tokio::time::timeout(Duration::from_secs(5), deleted).await;
    verdict
}
