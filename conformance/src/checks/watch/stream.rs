//! The stream: how it begins, how it lives, how it is refused.

use serde_json::json;

use super::{folder, of, watch};
use crate::check::{Check, Verdict, equal, expect, fail};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "watch/start",
        &["watch-no-start"],
        "A watch begins with a start event.",
        |c| Box::pin(start(c)),
    ),
    Check::new(
        "watch/keepalive",
        &["watch-no-keepalive"],
        "An idle watch has keep-alives at the interval asked for.",
        |c| Box::pin(keepalive(c)),
    ),
    Check::new(
        "watch/missing",
        &["watch-missing-starts"],
        "Watching what is not there is not_found.",
        |c| Box::pin(missing(c)),
    ),
    Check::new(
        "watch/file",
        &["watch-file-starts"],
        "Watching a file is invalid_argument.",
        |c| Box::pin(file(c)),
    ),
];

async fn start(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let request = sandbox
        .streaming(&c, "filesystem.Filesystem/WatchDir", &of(&path, json!({})))
        // Whatever comes first comes soon.
        .header("keepalive-ping-interval", "1");
    let mut stream = c.stream(request).await?;
    let first = stream.message(c.usual()).await?.unwrap_or_default();
    expect(
        first["start"].is_object(),
        "a start event first",
        first.to_string(),
    )
}

async fn keepalive(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let request = sandbox
        .streaming(&c, "filesystem.Filesystem/WatchDir", &of(&path, json!({})))
        .header("keepalive-ping-interval", "1");
    let mut stream = c.stream(request).await?;
    let beat = async {
        while let Some(message) = stream.message(c.usual()).await? {
            if message["keepalive"].is_object() {
                return Ok(());
            }
        }
        Err(fail("a keep-alive", "the stream ended"))
    };
    match tokio::time::timeout(c.limit(4.0), beat).await {
        Ok(beat) => beat,
        Err(_) => Err(fail(
            "a keep-alive each second",
            format!("none within {:?}", c.limit(4.0)),
        )),
    }
}

async fn refused(c: &Context, path: &str, code: &str) -> Verdict {
    let sandbox = c.shared().await?;
    let request = sandbox
        .streaming(c, "filesystem.Filesystem/WatchDir", &of(path, json!({})))
        .header("keepalive-ping-interval", "1");
    let mut stream = c.stream(request).await?;
    if let Some(first) = stream.message(c.usual()).await? {
        return Err(fail(
            format!("no event and an end frame with error {code}"),
            first.to_string(),
        ));
    }
    let (_, ending) = stream.drain(c.usual()).await?;
    equal(
        "error code of the end frame",
        &ending.code.as_deref(),
        &Some(code),
    )
}

async fn missing(c: Context) -> Verdict {
    refused(&c, &format!("/home/user/no-{}", c.unique()), "not_found").await
}

async fn file(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let file = format!("{path}/file");
    sandbox.put(&c, &file, b"text").await?;
    // The watch of its folder works, so a refusal is for the file.
    drop(watch(&c, &sandbox, &of(&path, json!({}))).await?);
    refused(&c, &file, "invalid_argument").await
}
