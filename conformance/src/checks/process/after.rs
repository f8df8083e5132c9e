//! What is kept of a process that nobody reads, and of one that has ended.

use serde_json::json;

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::shell;

pub const CHECKS: &[Check] = &[
    Check::new(
        "process/discarded",
        &["unread-output-blocks"],
        "Output without a reader is discarded and does not block the process.",
        |c| Box::pin(discarded(c)),
    )
    .slow(),
    Check::new(
        "process/connect-ended",
        &["ended-forgotten"],
        "Connect to a process that has just ended gives its end.",
        |c| Box::pin(ended(c)),
    ),
    Check::new(
        "process/tag-listed",
        &["tag-unlisted"],
        "A listed process has its tag.",
        |c| Box::pin(tag(c)),
    ),
];

async fn discarded(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let file = format!("/tmp/{}", c.unique());
    // More than any pipe holds.
    sandbox.put(&c, &file, &vec![b'x'; 1_000_000]).await?;
    let command = format!("sleep 1; cat {file}; cat {file}; echo done > {file}-done");
    let process = sandbox.start(&c, &shell(&command, json!({}))).await?;
    drop(process);
    let done = || async {
        let reply = sandbox.read_file(&c, &format!("{file}-done")).await?;
        Ok((reply.status.as_u16() == 200).then_some(()))
    };
    let what = "an end of the process that nobody reads";
    let verdict = c.eventually(what, c.limit(6.0), done).await;
    sandbox.run(&c, &format!("rm -f {file}")).await?;
    verdict
}

async fn ended(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let done = sandbox.run(&c, "exit 7").await?;
    let body = json!({ "process": { "pid": done.pid } });
    let request = sandbox.streaming(&c, "process.Process/Connect", &body);
    let again = sandbox.started(&c, request).await?.finish(&c).await?;
    equal("exit code", &again.exit_code(), &7)?;
    expect(again.out().is_empty(), "no output", again.out())
}

async fn tag(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let tag = c.unique();
    let mut body = shell("sleep 60", json!({}));
    body["tag"] = json!(tag);
    let process = sandbox.start(&c, &body).await?;
    let items = super::start::list(&c, &sandbox).await?;
    super::start::end(&c, &sandbox, process.pid).await;
    let item = items
        .iter()
        .find(|item| item["pid"].as_u64() == Some(process.pid))
        .ok_or_else(|| Stop::Untestable("the process is not listed".to_owned()))?;
    equal("tag", &item["tag"], &json!(tag))
}
