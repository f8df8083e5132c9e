//! Output.

use serde_json::json;

use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::shell;

pub const CHECKS: &[Check] = &[
    Check::new(
        "process/stdout",
        &["stdout-as-stderr"],
        "Standard output comes as `stdout`.",
        |c| Box::pin(stdout(c)),
    ),
    Check::new(
        "process/stderr",
        &["stderr-as-stdout"],
        "Standard error comes as `stderr`.",
        |c| Box::pin(stderr(c)),
    ),
    Check::new(
        "process/bytes",
        &["output-lossy"],
        "Output is bytes, also where it is no text.",
        |c| Box::pin(bytes(c)),
    ),
    Check::new(
        "process/large-output",
        &["output-truncated"],
        "A megabyte of output comes whole and in order.",
        |c| Box::pin(large(c)),
    ),
    Check::new(
        "process/background-child",
        &["grandchild-holds"],
        "A child in the background does not hold up the end.",
        |c| Box::pin(background(c)),
    ),
    Check::new(
        "process/keepalive",
        &["no-keepalive"],
        "An idle stream has keep-alives at the interval asked for.",
        |c| Box::pin(keepalive(c)),
    )
    .slow(),
    Check::new(
        "process/connect-new-output",
        &["connect-replays"],
        "Connect gives a start event and only new output.",
        |c| Box::pin(connect_new(c)),
    ),
    Check::new(
        "process/connect-unknown",
        &["connect-of-missing-empty"],
        "Connecting to an unknown process is not_found.",
        |c| Box::pin(connect_unknown(c)),
    ),
    Check::new(
        "process/disconnect",
        &["disconnect-kills"],
        "A process goes on when its client disconnects.",
        |c| Box::pin(disconnect(c)),
    ),
];

async fn stdout(c: Context) -> Verdict {
    let done = c.shared().await?.run(&c, "echo hello").await?;
    equal("stdout", done.out().as_str(), "hello\n")?;
    expect(
        done.stderr.is_empty(),
        "nothing on stderr",
        String::from_utf8_lossy(&done.stderr),
    )
}

async fn stderr(c: Context) -> Verdict {
    let done = c.shared().await?.run(&c, "echo oh no >&2").await?;
    equal(
        "stderr",
        String::from_utf8_lossy(&done.stderr).as_ref(),
        "oh no\n",
    )?;
    expect(done.stdout.is_empty(), "nothing on stdout", done.out())
}

async fn bytes(c: Context) -> Verdict {
    let done = c
        .shared()
        .await?
        .run(&c, "printf '\\377\\000\\376\\342\\202'")
        .await?;
    equal("stdout", &done.stdout, &vec![0xff, 0x00, 0xfe, 0xe2, 0x82])
}

async fn large(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let path = format!("/tmp/{}", c.unique());
    let content: Vec<u8> = (0..200_000u32)
        .flat_map(|line| format!("{line:05}").into_bytes())
        .collect();
    sandbox.put(&c, &path, &content).await?;
    let done = sandbox
        .run(&c, &format!("cat {path}; rm -f {path}"))
        .await?;
    let same = done
        .stdout
        .iter()
        .zip(&content)
        .take_while(|(a, b)| a == b)
        .count();
    let shown = format!(
        "{} bytes, the first {same} of them right",
        done.stdout.len()
    );
    expect(
        done.stdout == content,
        format!("all {} bytes", content.len()),
        shown,
    )
}

async fn background(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let since = std::time::Instant::now();
    let done = sandbox.run(&c, "sleep 15 & echo done").await?;
    equal("stdout", done.out().as_str(), "done\n")?;
    let took = since.elapsed().as_secs_f64();
    expect(
        took < 10.0 + c.limit(2.0).as_secs_f64().min(4.0),
        "an end before the child's",
        format!("after {took:.1} s"),
    )
}

async fn keepalive(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let request = sandbox
        .streaming(&c, "process.Process/Start", &shell("sleep 4", json!({})))
        .header("keepalive-ping-interval", "1");
    let mut process = sandbox.started(&c, request).await?;
    let mut beats = 0;
    while let Some(message) = process.stream.message(c.usual()).await? {
        beats += usize::from(message["event"]["keepalive"].is_object());
    }
    expect(
        beats >= 2,
        "at least 2 keep-alives in 4 idle seconds",
        beats.to_string(),
    )
}

async fn connect_new(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let mut body = shell("echo before; cat", json!({}));
    body["stdin"] = json!(true);
    let mut process = sandbox.start(&c, &body).await?;
    process.until(&c, "before").await?;
    let pid = process.pid;
    let connect = sandbox.streaming(
        &c,
        "process.Process/Connect",
        &json!({ "process": { "pid": pid } }),
    );
    let second = sandbox.started(&c, connect).await?;
    equal("pid of the start event", &second.pid, &pid)?;
    super::input::send(&c, &sandbox, pid, b"after\n")
        .await?
        .status(200)?;
    super::input::close(&c, &sandbox, pid).await?.status(200)?;
    let done = second.finish(&c).await?;
    equal(
        "output of the second stream",
        done.out().as_str(),
        "after\n",
    )
}

async fn connect_unknown(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let body = json!({ "process": { "pid": 3_999_999 } });
    let request = sandbox.streaming(&c, "process.Process/Connect", &body);
    super::start::refused(&c, &sandbox, request, "not_found")
        .await
        .map(|_| ())
}

async fn disconnect(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let process = sandbox.start(&c, &shell("sleep 60", json!({}))).await?;
    let pid = process.pid;
    drop(process);
    tokio::time::sleep(c.limit(0.5)).await;
    let items = super::start::list(&c, &sandbox).await?;
    super::start::end(&c, &sandbox, pid).await;
    let there = items.iter().any(|item| item["pid"].as_u64() == Some(pid));
    expect(
        there,
        format!("pid {pid} still in the list"),
        json!(items).to_string(),
    )
}
