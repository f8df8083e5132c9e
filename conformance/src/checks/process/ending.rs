//! Ends.

use std::time::Duration;

use serde_json::json;

use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::shell;

pub const CHECKS: &[Check] = &[
    Check::new(
        "process/end-event",
        &["no-end-event", "end-not-exited"],
        "A process that ends by itself has an end event that says so.",
        |c| Box::pin(end_event(c)),
    ),
    Check::new(
        "process/end-last",
        &["data-after-end"],
        "Nothing follows the end event.",
        |c| Box::pin(end_last(c)),
    ),
    Check::new(
        "process/exit-code",
        &["exit-code-lost"],
        "The end event has the exit code.",
        |c| Box::pin(exit_code(c)),
    ),
    Check::new(
        "process/exit-status",
        &["end-without-status", "end-without-error"],
        "Status and error say `exit status N`.",
        |c| Box::pin(exit_status(c)),
    ),
    Check::new(
        "process/killed-event",
        &["killed-looks-exited"],
        "A killed process ends with `signal: killed`, not exited.",
        |c| Box::pin(killed(c)),
    ),
    Check::new(
        "process/deadline",
        &["deadline-ignored", "deadline-code-canceled"],
        "At Connect-Timeout-Ms the stream ends with deadline_exceeded.",
        |c| Box::pin(deadline(c)),
    ),
    Check::new(
        "process/deadline-kills",
        &["deadline-leaves-process"],
        "At Connect-Timeout-Ms the process is killed.",
        |c| Box::pin(deadline_kills(c)),
    ),
];

async fn end_event(c: Context) -> Verdict {
    let done = c.shared().await?.run(&c, "true").await?;
    equal("exited", &done.end["exited"], &json!(true))?;
    equal("exit code", &done.exit_code(), &0)
}

async fn end_last(c: Context) -> Verdict {
    c.shared().await?.run(&c, "echo last").await.map(|_| ())
}

async fn exit_code(c: Context) -> Verdict {
    let done = c.shared().await?.run(&c, "exit 7").await?;
    equal("exit code", &done.exit_code(), &7)
}

async fn exit_status(c: Context) -> Verdict {
    let done = c.shared().await?.run(&c, "exit 3").await?;
    equal("status", &done.end["status"], &json!("exit status 3"))?;
    equal("error", &done.end["error"], &json!("exit status 3"))
}

async fn killed(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let process = sandbox.start(&c, &shell("sleep 60", json!({}))).await?;
    super::start::end(&c, &sandbox, process.pid).await;
    let done = process.finish(&c).await?;
    expect(
        done.end["exited"] != true,
        "exited false or absent",
        done.end.to_string(),
    )?;
    equal("status", &done.end["status"], &json!("signal: killed"))?;
    equal("exit code", &done.exit_code(), &-1)
}

/// A command that is cut off, and its pid. Generous: a slow target needs some of the time to start it.
async fn cut_off(c: &Context) -> Result<(u64, Option<String>), crate::check::Stop> {
    let sandbox = c.shared().await?;
    let limit = c.limit(1.0).max(Duration::from_secs(1));
    let request = sandbox
        .streaming(c, "process.Process/Start", &shell("sleep 60", json!({})))
        .header("connect-timeout-ms", limit.as_millis().to_string());
    let process = sandbox.started(c, request).await?;
    let pid = process.pid;
    let (_, ending) = process.ended(c).await?;
    Ok((pid, ending.code))
}

async fn deadline(c: Context) -> Verdict {
    let (_, code) = cut_off(&c).await?;
    equal(
        "error code of the end frame",
        &code.as_deref(),
        &Some("deadline_exceeded"),
    )
}

async fn deadline_kills(c: Context) -> Verdict {
    let (pid, _) = cut_off(&c).await?;
    let sandbox = c.shared().await?;
    let gone = || async {
        let items = super::start::list(&c, &sandbox).await?;
        Ok((!items.iter().any(|item| item["pid"].as_u64() == Some(pid))).then_some(()))
    };
    let result = c
        .eventually("the process gone from the list", c.limit(2.0), gone)
        .await;
    super::start::end(&c, &sandbox, pid).await;
    result
}
