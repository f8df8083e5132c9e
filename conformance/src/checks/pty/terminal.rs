//! A terminal: what it shows, its size, its end.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::{Process, Sandbox};
use crate::wire::encode::base64;

pub const CHECKS: &[Check] = &[
    Check::new(
        "pty/output",
        &["pty-as-stdout"],
        "A terminal's output comes as `pty`.",
        |c| Box::pin(output(c)),
    ),
    Check::new(
        "pty/size",
        &["pty-size-ignored"],
        "A terminal has the size of its create.",
        |c| Box::pin(size(c)),
    ),
    Check::new(
        "pty/resize",
        &["pty-resize-ignored"],
        "Update changes a terminal's size.",
        |c| Box::pin(resize(c)),
    ),
    Check::new(
        "pty/exit",
        &["pty-exit-zero"],
        "A terminal ends with its shell's exit code.",
        |c| Box::pin(exit(c)),
    ),
    Check::new(
        "pty/close-stdin",
        &["pty-close-stdin-200"],
        "CloseStdin on a terminal is an error.",
        |c| Box::pin(close_stdin(c)),
    ),
];

pub async fn terminal(c: &Context) -> Result<(Sandbox, Process), Stop> {
    let sandbox = c.shared().await?;
    let body = json!({
        "process": {
            "cmd": "/bin/bash",
            "args": ["-i", "-l"],
            "envs": { "TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8" },
        },
        "pty": { "size": { "cols": 81, "rows": 25 } },
    });
    let process = sandbox.start(c, &body).await?;
    Ok((sandbox, process))
}

pub async fn types(c: &Context, sandbox: &Sandbox, process: &Process, text: &str) -> Verdict {
    let body =
        json!({ "process": { "pid": process.pid }, "input": { "pty": base64(text.as_bytes()) } });
    sandbox
        .rpc(c, "process.Process/SendInput", &body)
        .await?
        .status(200)
        .map(|_| ())
}

pub async fn ends(c: &Context, sandbox: &Sandbox, process: &Process) {
    let body = json!({ "process": { "pid": process.pid }, "signal": "SIGNAL_SIGKILL" });
    let _ = sandbox.rpc(c, "process.Process/SendSignal", &body).await;
}

/// What a terminal shows until a word is there.
pub async fn shows(
    c: &Context,
    sandbox: &Sandbox,
    process: &mut Process,
    wanted: &str,
) -> Result<String, Stop> {
    let seen = tokio::time::timeout(c.limit(8.0), process.until(c, wanted)).await;
    match seen {
        Ok(seen) => seen,
        Err(_) => {
            ends(c, sandbox, process).await;
            Err(crate::check::fail(
                format!("{wanted:?} on the terminal"),
                "it did not come",
            ))
        }
    }
}

async fn output(c: Context) -> Verdict {
    let (sandbox, process) = terminal(&c).await?;
    types(&c, &sandbox, &process, "echo to''gether; exit\n").await?;
    let done = process.finish(&c).await?;
    let shown = String::from_utf8_lossy(&done.pty).into_owned();
    expect(shown.contains("together"), "the output as `pty`", shown)?;
    expect(
        done.stdout.is_empty() && done.stderr.is_empty(),
        "nothing as stdout or stderr",
        done.out(),
    )
}

async fn size(c: Context) -> Verdict {
    let (sandbox, mut process) = terminal(&c).await?;
    types(&c, &sandbox, &process, "stty size\n").await?;
    shows(&c, &sandbox, &mut process, "25 81").await?;
    ends(&c, &sandbox, &process).await;
    Ok(())
}

async fn resize(c: Context) -> Verdict {
    let (sandbox, mut process) = terminal(&c).await?;
    let body = json!({ "process": { "pid": process.pid }, "pty": { "size": { "cols": 133, "rows": 41 } } });
    sandbox
        .rpc(&c, "process.Process/Update", &body)
        .await?
        .status(200)?;
    types(&c, &sandbox, &process, "stty size\n").await?;
    shows(&c, &sandbox, &mut process, "41 133").await?;
    ends(&c, &sandbox, &process).await;
    Ok(())
}

async fn exit(c: Context) -> Verdict {
    let (sandbox, process) = terminal(&c).await?;
    types(&c, &sandbox, &process, "exit 5\n").await?;
    let done = process.finish(&c).await?;
    equal("exit code", &done.exit_code(), &5)?;
    equal("exited", &done.end["exited"], &Value::Bool(true))
}

async fn close_stdin(c: Context) -> Verdict {
    let (sandbox, process) = terminal(&c).await?;
    let body = json!({ "process": { "pid": process.pid } });
    let reply = sandbox.rpc(&c, "process.Process/CloseStdin", &body).await?;
    ends(&c, &sandbox, &process).await;
    expect(!reply.status.is_success(), "an error", reply.brief())
}
