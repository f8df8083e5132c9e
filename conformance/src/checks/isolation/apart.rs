//! What a sandbox does not see of another one.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::probe::Probe;
use crate::sandbox::shell;
use crate::wire::reply::text;

pub const CHECKS: &[Check] = &[
    Check::new(
        "isolation/kernel",
        &["kernel-shared", "clones-same-boot-id"],
        "A sandbox has a kernel of its own.",
        |c| Box::pin(kernel(c)),
    ),
    Check::new(
        "isolation/files-apart",
        &["files-shared"],
        "Files of a sandbox are not seen by another one.",
        |c| Box::pin(files(c)),
    ),
    Check::new(
        "isolation/processes-apart",
        &["processes-shared"],
        "Processes of a sandbox are not seen by another one.",
        |c| Box::pin(processes(c)),
    ),
];

async fn two(c: &Context) -> Result<(Probe, Probe), Stop> {
    let first = Probe::fresh(c, json!({})).await?;
    Ok((first, Probe::fresh(c, json!({})).await?))
}

async fn kernel(c: Context) -> Verdict {
    let (one, other) = two(&c).await?;
    let boot = |seen: Value| text(&seen, "boot_id");
    let (first, second) = (
        boot(one.ask(&c, &["identity"]).await?)?,
        boot(other.ask(&c, &["identity"]).await?)?,
    );
    expect(first != second, "two boot ids", format!("{first} in both"))?;
    let before = text(&other.ask(&c, &["kernel", "-"]).await?, "value")?;
    let wanted = if before == "4177" { "4178" } else { "4177" };
    // Where root may not write, the boot ids have to do.
    one.ask_as(&c, &["kernel", wanted], Some("root")).await?;
    let after = text(&other.ask(&c, &["kernel", "-"]).await?, "value")?;
    equal(
        "kernel.panic in a sandbox after another one set its own",
        &after,
        &before,
    )
}

/// What one sandbox sees of a path, and of processes with a word.
async fn sees(c: &Context, probe: &Probe, path: &str, word: &str) -> Result<Value, Stop> {
    let backwards: String = word.chars().rev().collect();
    probe.ask(c, &["sees", path, &backwards]).await
}

async fn files(c: Context) -> Verdict {
    let (one, other) = two(&c).await?;
    let path = format!("/tmp/{}", c.unique());
    one.sandbox.put(&c, &path, b"secret").await?;
    let own = sees(&c, &one, &path, "no-such-word").await?;
    if own["file"] != true {
        return Err(Stop::Untestable(
            "a file that was written is not seen in its own sandbox".to_owned(),
        ));
    }
    let there = sees(&c, &other, &path, "no-such-word").await?;
    equal(
        "the file is seen in the other sandbox",
        &there["file"],
        &json!(false),
    )
}

async fn processes(c: Context) -> Verdict {
    let (one, other) = two(&c).await?;
    let word = c.unique();
    let command = format!("sleep 60; echo {word}");
    let mut body = shell(&command, json!({}));
    body["tag"] = json!("apart");
    let process = one.sandbox.start(&c, &body).await?;
    let own = sees(&c, &one, "/no-such", &word).await?;
    if own["process"] != true {
        return Err(Stop::Untestable(
            "a process is not seen in its own sandbox".to_owned(),
        ));
    }
    let there = sees(&c, &other, "/no-such", &word).await?;
    drop(process);
    equal(
        "the process is seen in the other sandbox",
        &there["process"],
        &json!(false),
    )
}
