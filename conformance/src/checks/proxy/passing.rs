//! What goes through unchanged, what is changed, and how streams end.

use std::time::Instant;

use http::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::serve;
use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::{Context, broken};
use crate::sandbox::{Sandbox, shell};
use crate::wire::http1;

pub const CHECKS: &[Check] = &[
    Check::new(
        "proxy/request",
        &[
            "proxy-drops-query",
            "proxy-drops-headers",
            "proxy-drops-body",
            "proxy-method-post",
        ],
        "Method, path, query, headers and body reach the server.",
        |c| Box::pin(request(c)),
    ),
    Check::new(
        "proxy/response",
        &["proxy-status-200", "proxy-drops-response-headers"],
        "Status and headers of the server come back.",
        |c| Box::pin(response(c)),
    ),
    Check::new(
        "proxy/stream",
        &["proxy-buffers"],
        "A streamed answer comes as it is sent.",
        |c| Box::pin(streamed(c)),
    ),
    Check::new(
        "proxy/mask-host",
        &["mask-ignored", "mask-hides-original"],
        "maskRequestHost replaces Host and keeps it as X-Forwarded-Host.",
        |c| Box::pin(mask(c)),
    ),
    Check::new(
        "proxy/kill-cuts-command",
        &["kill-ends-streams-cleanly", "killed-agent-answers"],
        "A kill cuts a command's stream off, not ends it.",
        |c| Box::pin(cuts_command(c)),
    ),
    Check::new(
        "proxy/kill-cuts-stream",
        &["killed-agent-answers"],
        "A kill ends the streams of a sandbox's servers.",
        |c| Box::pin(cuts_stream(c)),
    ),
];

/// A sandbox with the echo server, one for each check: ports of the shared one are few.
async fn echo(c: &Context, extra: Value) -> Result<Sandbox, Stop> {
    let sandbox = c.fresh(extra).await?;
    serve(c, &sandbox, 8_080, "0.0.0.0").await?;
    Ok(sandbox)
}

async fn request(c: Context) -> Verdict {
    let sandbox = echo(&c, json!({})).await?;
    let request = sandbox
        .port(&c, Method::PUT, 8_080, "/some/path?a=1&b=%20x")
        .header("x-probe", "kept")
        .body("the body");
    let body = c.send(request).await?.status(200)?.json()?;
    c.done(&sandbox).await;
    equal("method", &body["method"], &json!("PUT"))?;
    equal("path", &body["path"], &json!("/some/path?a=1&b=%20x"))?;
    equal(
        "header x-probe",
        &body["headers"]["x-probe"],
        &json!("kept"),
    )?;
    equal("body", &body["body"], &json!("the body"))
}

async fn response(c: Context) -> Verdict {
    let sandbox = echo(&c, json!({})).await?;
    let reply = c
        .send(sandbox.port(&c, Method::GET, 8_080, "/status/418"))
        .await?;
    c.done(&sandbox).await;
    equal(
        "header x-conformance",
        reply.status(418)?.header("x-conformance"),
        "echo",
    )
}

async fn streamed(c: Context) -> Verdict {
    let sandbox = echo(&c, json!({})).await?;
    let request = sandbox.port(&c, Method::GET, 8_080, "/stream");
    let mut opened = http1::open(&request)
        .await
        .map_err(|error| broken(&error))?;
    let mut at = Vec::new();
    let mut text = String::new();
    while let Some(piece) = opened
        .piece(c.usual())
        .await
        .map_err(|error| broken(&error))?
    {
        text.push_str(&String::from_utf8_lossy(&piece));
        at.push(Instant::now());
    }
    c.done(&sandbox).await;
    equal("body", text.as_str(), "one\ntwo\n")?;
    let apart = match (at.first(), at.last()) {
        (Some(first), Some(last)) => last.duration_since(*first).as_secs_f64(),
        _ => 0.0,
    };
    expect(
        apart > 0.5,
        "a second between the lines",
        format!("{apart:.2} s"),
    )
}

async fn mask(c: Context) -> Verdict {
    let network = json!({ "network": { "maskRequestHost": "localhost:${PORT}" } });
    let sandbox = echo(&c, network).await?;
    let request = sandbox.by_name(&c, Method::GET, 8_080, "", "/");
    let host = request.host.clone();
    let body = c.send(request).await?.status(200)?.json()?;
    c.done(&sandbox).await;
    equal("Host", &body["headers"]["host"], &json!("localhost:8080"))?;
    let original = body["headers"]["x-forwarded-host"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    let wanted = host.unwrap_or_else(|| format!("8080-{}", sandbox.id));
    expect(
        original.starts_with(&wanted),
        format!("X-Forwarded-Host {wanted}"),
        original,
    )
}

async fn cuts_command(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let mut process = sandbox
        .start(&c, &shell("echo up; sleep 60", json!({})))
        .await?;
    process.until(&c, "up").await?;
    c.delete(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .one_of(&[200, 204])?;
    let ended = OnceCell::new();
    let after = tokio::time::timeout(c.limit(10.0), async {
        loop {
            match process.stream.message(c.usual()).await {
                Ok(Some(_)) => {}
                other => return ended.set(other.map(|_| ())).is_ok(),
            }
        }
    });
    if after.await.is_err() {
        return Err(fail("the stream cut off", "it went on after the kill"));
    }
    match ended.into_inner() {
        // SDKs tell a killed sandbox by a connection that breaks.
        Some(Err(Stop::Fail { expected, .. })) if expected == "an HTTP answer" => Ok(()),
        Some(Err(Stop::Fail { actual, .. })) => Err(fail("a connection that breaks", actual)),
        other => Err(fail("a connection that breaks", format!("{other:?}"))),
    }
}

async fn cuts_stream(c: Context) -> Verdict {
    let sandbox = echo(&c, json!({})).await?;
    let request = sandbox.port(&c, Method::GET, 8_080, "/endless");
    let mut opened = http1::open(&request)
        .await
        .map_err(|error| broken(&error))?;
    opened
        .piece(c.usual())
        .await
        .map_err(|error| broken(&error))?;
    c.delete(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .one_of(&[200, 204])?;
    let end = tokio::time::timeout(c.limit(10.0), async {
        while let Ok(Some(_)) = opened.piece(c.usual()).await {}
    });
    end.await
        .map_err(|_| fail("an end of the stream", "it went on after the kill"))
}
