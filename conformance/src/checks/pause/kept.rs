//! What a pause keeps.

use http::Method;
use jiff::Timestamp;
use serde_json::json;

use super::{lives, paused, resumed, round, sleeper};
use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::checks::proxy::serve;
use crate::context::Context;
use crate::sandbox::Sandbox;

pub const CHECKS: &[Check] = &[
    Check::new(
        "pause/keeps-files",
        &["pause-loses-files"],
        "Files are kept over pause and resume.",
        |c| Box::pin(files(c)),
    ),
    Check::new(
        "pause/keeps-processes",
        &["pause-kills-processes"],
        "Processes are kept over a full pause.",
        |c| Box::pin(processes(c)),
    ),
    Check::new(
        "pause/keeps-env",
        &["pause-loses-env"],
        "The create's environment is kept over pause and resume.",
        |c| Box::pin(env(c)),
    ),
    Check::new(
        "pause/keeps-sockets",
        &["pause-closes-sockets"],
        "A server goes on serving after a full pause.",
        |c| Box::pin(sockets(c)),
    ),
    Check::new(
        "pause/keeps-boot-id",
        &["pause-changes-boot-id"],
        "A full pause keeps the boot id.",
        |c| Box::pin(boot_id_kept(c)),
    ),
    Check::new(
        "pause/changes-boot-id",
        &["disk-pause-keeps-boot-id"],
        "A pause of the disk only changes the boot id.",
        |c| Box::pin(boot_id_changed(c)),
    ),
    Check::new(
        "pause/clock",
        &["clock-stands-still"],
        "After a resume the clock is right.",
        |c| Box::pin(clock(c)),
    )
    .slow(),
];

async fn files(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    sandbox.put(&c, "/home/user/kept", b"kept").await?;
    round(&c, &sandbox, &json!({})).await?;
    let file = sandbox.read_file(&c, "/home/user/kept").await?;
    equal("content", file.status(200)?.text().as_str(), "kept")
}

async fn processes(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let pid = sleeper(&c, &sandbox).await?;
    round(&c, &sandbox, &json!({})).await?;
    let lives = lives(&c, &sandbox, pid).await?;
    expect(lives, format!("process {pid} in the list"), "it is gone")
}

async fn env(c: Context) -> Verdict {
    let envs = json!({ "envVars": { "MARK": "kept" } });
    let sandbox = c.fresh(envs).await?;
    round(&c, &sandbox, &json!({})).await?;
    let done = sandbox.run(&c, "printenv MARK").await?;
    equal("MARK", done.out().trim_end(), "kept")
}

async fn sockets(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    serve(&c, &sandbox, 8_080, "0.0.0.0").await?;
    round(&c, &sandbox, &json!({})).await?;
    let reply = c
        .send(sandbox.port(&c, Method::GET, 8_080, "/after"))
        .await?;
    reply.status(200).map(|_| ())
}

async fn boot_id(c: &Context, sandbox: &Sandbox) -> Result<String, Stop> {
    let done = sandbox
        .run(c, "cat /proc/sys/kernel/random/boot_id")
        .await?;
    let id = done.out().trim().to_owned();
    if id.is_empty() {
        return Err(fail("a boot id", "nothing"));
    }
    Ok(id)
}

async fn boot_id_kept(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let before = boot_id(&c, &sandbox).await?;
    round(&c, &sandbox, &json!({})).await?;
    equal("boot id", &boot_id(&c, &sandbox).await?, &before)
}

async fn boot_id_changed(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let before = boot_id(&c, &sandbox).await?;
    super::pause(&c, &sandbox.id, &json!({ "memory": false }))
        .await?
        .status(204)?;
    resumed(&c, &sandbox).await?;
    let after = boot_id(&c, &sandbox).await?;
    expect(after != before, "another boot id", "the same")
}

/// How far the sandbox's clock may be ahead of ours: at least and at most, in seconds.
async fn ahead(c: &Context, sandbox: &Sandbox) -> Result<(i64, i64), Stop> {
    let sent = Timestamp::now().as_second();
    let done = sandbox.run(c, "date +%s").await?;
    let came = Timestamp::now().as_second();
    let shown = done.out().trim().to_owned();
    let theirs: i64 = shown
        .parse()
        .map_err(|_| fail("seconds from `date +%s`", shown))?;
    Ok((theirs - came, theirs - sent))
}

async fn clock(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let (least, _) = ahead(&c, &sandbox).await?;
    paused(&c, &sandbox, &json!({})).await?;
    let pause = c.limit(1.0).max(std::time::Duration::from_secs(4));
    tokio::time::sleep(pause).await;
    resumed(&c, &sandbox).await?;
    let (_, most) = ahead(&c, &sandbox).await?;
    // A clock that stood still is behind by the whole pause, whatever the exchanges took.
    let lost = least - most;
    expect(
        lost <= 2,
        "a clock that has gone on during the pause",
        format!("at least {lost} s were lost in a pause of {pause:?}"),
    )
}
