//! Signals to a terminal, and coming back to it.

use serde_json::json;

use super::terminal::{ends, shows, terminal, types};
use crate::check::{Check, Verdict, expect, fail};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "pty/kill",
        &["sigkill-ignored"],
        "A terminal can be killed.",
        |c| Box::pin(kill(c)),
    ),
    Check::new(
        "pty/reconnect",
        &["pty-connect-silent"],
        "Connect to a terminal gives its new output.",
        |c| Box::pin(reconnect(c)),
    ),
    Check::new(
        "pty/signal-on-resize",
        &["pty-resize-silent"],
        "A resize sends SIGWINCH to the foreground.",
        |c| Box::pin(winch(c)),
    ),
    Check::new(
        "pty/interrupt",
        &["pty-interrupt-ignored"],
        "Ctrl-C as input interrupts the foreground process.",
        |c| Box::pin(interrupt(c)),
    ),
];

async fn kill(c: Context) -> Verdict {
    let (sandbox, process) = terminal(&c).await?;
    ends(&c, &sandbox, &process).await;
    match tokio::time::timeout(c.limit(5.0), process.finish(&c)).await {
        Ok(done) => {
            let done = done?;
            expect(
                done.end["exited"] != true,
                "a killed process",
                done.end.to_string(),
            )
        }
        Err(_) => Err(fail("the terminal's end", "it went on")),
    }
}

async fn reconnect(c: Context) -> Verdict {
    let (sandbox, process) = terminal(&c).await?;
    let body = json!({ "process": { "pid": process.pid } });
    let request = sandbox.streaming(&c, "process.Process/Connect", &body);
    let mut second = sandbox.started(&c, request).await?;
    types(&c, &sandbox, &process, "echo to''gether\n").await?;
    shows(&c, &sandbox, &mut second, "together").await?;
    ends(&c, &sandbox, &process).await;
    Ok(())
}

/// Says that it is ready, and when the terminal gets another size. The words are not in its text.
const SIZED: &str = "python3 -c \"import signal,time; \
signal.signal(signal.SIGWINCH, lambda *a: print('resi'+'zed', flush=True)); \
print('rea'+'dy', flush=True); time.sleep(20); time.sleep(20)\"\n";

async fn winch(c: Context) -> Verdict {
    let (sandbox, mut process) = terminal(&c).await?;
    types(&c, &sandbox, &process, SIZED).await?;
    let ready = shows(&c, &sandbox, &mut process, "ready").await;
    ready.map_err(|stop| stop.blocks("python3 did not start in the terminal"))?;
    let size = json!({ "size": { "cols": 99, "rows": 33 } });
    let body = json!({ "process": { "pid": process.pid }, "pty": size });
    let reply = sandbox.rpc(&c, "process.Process/Update", &body).await?;
    reply.status(200)?;
    shows(&c, &sandbox, &mut process, "resized").await?;
    ends(&c, &sandbox, &process).await;
    Ok(())
}

async fn interrupt(c: Context) -> Verdict {
    let (sandbox, mut process) = terminal(&c).await?;
    // A shell of its own: an interrupt ends it whatever it is at.
    let line = "bash -c \"echo rea''dy; sleep 60\"\n";
    types(&c, &sandbox, &process, line).await?;
    shows(&c, &sandbox, &mut process, "ready").await?;
    types(&c, &sandbox, &process, "\u{3}").await?;
    types(&c, &sandbox, &process, "echo ali''ve\n").await?;
    shows(&c, &sandbox, &mut process, "alive").await?;
    ends(&c, &sandbox, &process).await;
    Ok(())
}
