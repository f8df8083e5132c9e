//! What is created from a snapshot.

use serde_json::json;

use super::{from, remembering, remembers, snapshot};
use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "snapshot/create",
        &["snapshot-no-template"],
        "A snapshotID is a template of a create.",
        |c| Box::pin(create(c)),
    ),
    Check::new(
        "snapshot/many",
        &["snapshot-once"],
        "Many sandboxes can be made from one snapshot.",
        |c| Box::pin(many(c)),
    ),
    Check::new(
        "snapshot/files",
        &["snapshot-loses-files"],
        "A sandbox made from a snapshot has its files.",
        |c| Box::pin(files(c)),
    ),
    Check::new(
        "snapshot/processes",
        &["snapshot-loses-processes"],
        "A sandbox made from a snapshot has its processes, with what they had in memory.",
        |c| Box::pin(processes(c)),
    ),
];

async fn create(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let snapshot = snapshot(&c, &sandbox, &json!({})).await?;
    let clone = from(&c, &snapshot).await?;
    expect(clone.id != sandbox.id, "a sandbox of its own", &clone.id)?;
    let done = clone.run(&c, "echo on").await?;
    equal("output", done.out().trim_end(), "on")
}

async fn many(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let snapshot = snapshot(&c, &sandbox, &json!({})).await?;
    let mut ids = vec![sandbox.id];
    for _ in 0..3 {
        let clone = from(&c, &snapshot).await?;
        expect(!ids.contains(&clone.id), "another id", &clone.id)?;
        ids.push(clone.id);
    }
    Ok(())
}

async fn files(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let mark = c.unique();
    sandbox.put(&c, "/home/user/kept", mark.as_bytes()).await?;
    let snapshot = snapshot(&c, &sandbox, &json!({})).await?;
    // What comes later is not in it.
    sandbox.put(&c, "/home/user/kept", b"later").await?;
    let clone = from(&c, &snapshot).await?;
    let file = clone.read_file(&c, "/home/user/kept").await?;
    equal("content", &file.status(200)?.text(), &mark)
}

async fn processes(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let memory = remembering(&c, &sandbox).await?;
    let snapshot = snapshot(&c, &sandbox, &json!({})).await?;
    let clone = from(&c, &snapshot).await?;
    remembers(&c, &clone, &memory).await
}
