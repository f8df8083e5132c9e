//! Protocols beside HTTP/1.1.

use std::time::Instant;

use http::Method;
use serde_json::json;

use super::serve;
use crate::check::{Check, Stop, Verdict, equal, fail};
use crate::context::{Context, broken};
use crate::sandbox::AGENT;
use crate::wire::websocket::{ACCEPT, KEY, Socket, TEXT};
use crate::wire::{http1, http2};

pub const CHECKS: &[Check] = &[
    Check::new(
        "proxy/websocket",
        &["websocket-refused", "websocket-silent"],
        "WebSockets pass, in both directions.",
        |c| Box::pin(websocket(c)),
    ),
    Check::new(
        "proxy/h2c",
        &["no-h2c"],
        "HTTP/2 without TLS is served.",
        |c| Box::pin(h2c(c)),
    ),
];

async fn websocket(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    serve(&c, &sandbox, 8_080, "0.0.0.0").await?;
    let request = sandbox
        .port(&c, Method::GET, 8_080, "/socket")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", KEY);
    let since = Instant::now();
    let result = http1::upgrade(&request).await;
    let (head, upgraded) = match result {
        Ok((reply, upgraded)) => {
            c.recorder.done(&request, since, &Ok(reply.clone()));
            (reply, upgraded)
        }
        Err(error) => {
            let stop = broken(&error);
            c.recorder.done(&request, since, &Err(error));
            return Err(stop);
        }
    };
    head.status(101)?;
    equal(
        "Sec-WebSocket-Accept",
        head.header("sec-websocket-accept"),
        ACCEPT,
    )?;
    let upgraded = upgraded.ok_or_else(|| fail("an upgraded connection", "none"))?;
    let mut socket = Socket::new(upgraded);
    for text in ["there and back", "and again"] {
        socket.send(text).await?;
        let frame = socket.frame(c.limit(5.0)).await?;
        equal("opcode", &frame.opcode, &TEXT)?;
        equal(
            "payload",
            String::from_utf8_lossy(&frame.payload).as_ref(),
            text,
        )?;
    }
    Ok(())
}

async fn h2c(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let request = sandbox.by_name(&c, Method::GET, AGENT, "", "/health");
    if request.origin.starts_with("https://") {
        return Err(Stop::Untestable("the target is reached by TLS".to_owned()));
    }
    let since = Instant::now();
    let result = http2::exchange(&request).await;
    c.recorder.done(&request, since, &result);
    let reply = result.map_err(|error| broken(&error))?;
    reply.status(204).map(|_| ())
}
