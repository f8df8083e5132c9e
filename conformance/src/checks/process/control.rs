//! Signals.

use serde_json::json;

use crate::check::{Check, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::sandbox::shell;

pub const CHECKS: &[Check] = &[
    Check::new(
        "process/sigkill",
        &["sigkill-ignored"],
        "SIGKILL ends a process.",
        |c| Box::pin(sigkill(c)),
    ),
    Check::new(
        "process/sigterm",
        &["sigterm-ignored"],
        "SIGTERM ends a process that does not care.",
        |c| Box::pin(sigterm(c)),
    ),
    Check::new(
        "process/signal-unknown",
        &["signal-of-missing-200"],
        "A signal to an unknown process is not_found.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "process/bad-signal",
        &["bad-signal-200"],
        "A signal that there is not is an error.",
        |c| Box::pin(bad_signal(c)),
    ),
];

async fn ends(c: &Context, signal: &str) -> Verdict {
    let sandbox = c.shared().await?;
    let body = json!({ "process": { "cmd": "/bin/sleep", "args": ["60"] }, "stdin": false });
    let process = sandbox.start(c, &body).await?;
    let pid = process.pid;
    let send = json!({ "process": { "pid": pid }, "signal": signal });
    sandbox
        .rpc(c, "process.Process/SendSignal", &send)
        .await?
        .status(200)?;
    match tokio::time::timeout(c.limit(5.0), process.finish(c)).await {
        Ok(done) => equal("exited", &(done?.end["exited"] == true), &false),
        Err(_) => {
            super::start::end(c, &sandbox, pid).await;
            Err(fail("the process's end", "it went on"))
        }
    }
}

async fn sigkill(c: Context) -> Verdict {
    ends(&c, "SIGNAL_SIGKILL").await
}

async fn sigterm(c: Context) -> Verdict {
    ends(&c, "SIGNAL_SIGTERM").await
}

async fn unknown(c: Context) -> Verdict {
    let send = json!({ "process": { "pid": 3_999_999 }, "signal": "SIGNAL_SIGKILL" });
    let reply = c
        .shared()
        .await?
        .rpc(&c, "process.Process/SendSignal", &send)
        .await?;
    reply.connect_error("not_found", 404).map(|_| ())
}

async fn bad_signal(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let process = sandbox.start(&c, &shell("sleep 60", json!({}))).await?;
    let send = json!({ "process": { "pid": process.pid }, "signal": "SIGNAL_UNSPECIFIED" });
    let reply = sandbox.rpc(&c, "process.Process/SendSignal", &send).await?;
    super::start::end(&c, &sandbox, process.pid).await;
    expect(
        reply.status.is_client_error() || reply.status.as_u16() == 501,
        "an error",
        reply.brief(),
    )
}
