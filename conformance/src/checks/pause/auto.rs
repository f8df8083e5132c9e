//! Pausing at the end of its time, and waking by traffic.

use http::Method;
use serde_json::{Value, json};

use super::{health, resumed, run_out, state};
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::checks::lifecycle::{about, left};
use crate::checks::proxy::serve;
use crate::context::Context;
use crate::sandbox::Sandbox;

pub const CHECKS: &[Check] = &[
    Check::new(
        "pause/auto",
        &["auto-pause-kills"],
        "A sandbox with autoPause is paused at its end.",
        |c| Box::pin(auto(c)),
    ),
    Check::new(
        "pause/auto-after-connect",
        &["connect-loses-auto-pause"],
        "A resumed sandbox with autoPause is paused at its end again.",
        |c| Box::pin(after_connect(c)),
    ),
    Check::new(
        "pause/auto-lifecycle",
        &["lifecycle-always-kill"],
        "The detail's lifecycle says what its end does.",
        |c| Box::pin(lifecycle(c)),
    ),
    Check::new(
        "pause/wakes-port",
        &["wake-port-never", "wake-answers-502"],
        "A request to a port wakes a sandbox with autoResume, and is answered by its server.",
        |c| Box::pin(wakes_port(c)),
    ),
    Check::new(
        "pause/wakes-agent",
        &["wake-agent-never"],
        "A request to the agent wakes a sandbox with autoResume.",
        |c| Box::pin(wakes_agent(c)),
    ),
    Check::new(
        "pause/wake-token",
        &["wake-any-token"],
        "Without the right access token nothing wakes: 403.",
        |c| Box::pin(wake_token(c)),
    ),
    Check::new(
        "pause/wake-traffic-token",
        &["wake-traffic-open"],
        "Without the right traffic token nothing wakes: 403.",
        |c| Box::pin(wake_traffic_token(c)),
    ),
    Check::new(
        "pause/wake-time",
        &["wake-time-fixed", "wake-time-no-floor"],
        "A woken sandbox lives as long as its create said, 300 seconds at least.",
        |c| Box::pin(wake_time(c)),
    ),
];

/// A sandbox that pauses at its end and is woken by traffic.
async fn waking(c: &Context, more: Value) -> Result<Sandbox, Stop> {
    let mut body = json!({ "autoPause": true, "autoResume": { "enabled": true } });
    if let Value::Object(more) = more {
        for (name, value) in more {
            body[name] = value;
        }
    }
    c.fresh(body).await
}

async fn auto(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({ "autoPause": true })).await?;
    run_out(&c, &sandbox).await
}

async fn after_connect(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({ "autoPause": true })).await?;
    run_out(&c, &sandbox).await?;
    resumed(&c, &sandbox).await?;
    run_out(&c, &sandbox).await
}

async fn lifecycle(c: Context) -> Verdict {
    let sandbox = waking(&c, json!({})).await?;
    let path = format!("/sandboxes/{}", sandbox.id);
    let detail = c.get(&path).await?.status(200)?.json()?;
    equal(
        "lifecycle",
        &detail["lifecycle"],
        &json!({ "autoResume": true, "onTimeout": "pause" }),
    )
}

async fn wakes_port(c: Context) -> Verdict {
    let sandbox = waking(&c, json!({})).await?;
    serve(&c, &sandbox, 8_080, "0.0.0.0").await?;
    run_out(&c, &sandbox).await?;
    let request = sandbox.port(&c, Method::GET, 8_080, "/woken");
    c.send(request).await?.status(200)?;
    equal("state", state(&c, &sandbox.id).await?.as_str(), "running")
}

async fn wakes_agent(c: Context) -> Verdict {
    let sandbox = waking(&c, json!({})).await?;
    run_out(&c, &sandbox).await?;
    let reply = health(&c, &sandbox).await?;
    expect(
        reply.status.is_success(),
        "an agent that answers",
        reply.brief(),
    )?;
    equal("state", state(&c, &sandbox.id).await?.as_str(), "running")
}

async fn wake_token(c: Context) -> Verdict {
    let sandbox = waking(&c, json!({})).await?;
    run_out(&c, &sandbox).await?;
    let wrong = sandbox.agent(&c, Method::GET, "/health");
    let wrong = [
        wrong.clone().without("x-access-token"),
        wrong.with("x-access-token", c.unique()),
    ];
    for request in wrong {
        c.send(request).await?.status(403)?;
    }
    equal("state", state(&c, &sandbox.id).await?.as_str(), "paused")
}

async fn wake_traffic_token(c: Context) -> Verdict {
    let private = json!({ "network": { "allowPublicTraffic": false } });
    let sandbox = waking(&c, private).await?;
    run_out(&c, &sandbox).await?;
    let request = sandbox.port(&c, Method::GET, 8_080, "/");
    c.send(request).await?.status(403)?;
    equal("state", state(&c, &sandbox.id).await?.as_str(), "paused")
}

async fn wake_time(c: Context) -> Verdict {
    for (created, wanted) in [(900, 900), (60, 300)] {
        let sandbox = waking(&c, json!({ "timeout": created })).await?;
        run_out(&c, &sandbox).await?;
        health(&c, &sandbox).await?;
        about(&c, left(&c, &sandbox.id).await?, wanted)?;
        c.done(&sandbox).await;
    }
    Ok(())
}
