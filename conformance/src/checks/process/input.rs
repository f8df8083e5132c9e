//! Standard input.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::{Process, Sandbox, shell};
use crate::wire::connect::STREAM_JSON;
use crate::wire::encode::base64;
use crate::wire::envelope;
use crate::wire::reply::Reply;

pub const CHECKS: &[Check] = &[
    Check::new(
        "process/stdin",
        &["stdin-dropped"],
        "SendInput reaches standard input.",
        |c| Box::pin(stdin(c)),
    ),
    Check::new(
        "process/close-stdin",
        &["close-stdin-ignored"],
        "CloseStdin ends standard input.",
        |c| Box::pin(close_stdin(c)),
    ),
    Check::new(
        "process/close-stdin-twice",
        &["close-stdin-twice-error"],
        "CloseStdin may be repeated.",
        |c| Box::pin(close_twice(c)),
    ),
    Check::new(
        "process/stdin-false",
        &["stdin-false-ignored"],
        "With `stdin: false` standard input is empty.",
        |c| Box::pin(stdin_false(c)),
    ),
    Check::new(
        "process/stdin-absent",
        &["stdin-absent-closed"],
        "Without `stdin` standard input is open.",
        |c| Box::pin(stdin_absent(c)),
    ),
    Check::new(
        "process/input-disabled",
        &["input-when-closed-200"],
        "Input to a process without standard input is an error.",
        |c| Box::pin(disabled(c)),
    ),
    Check::new(
        "process/input-unknown",
        &["call-errors-200", "call-errors-as-text"],
        "Input to an unknown process is not_found: 404 with a Connect error.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "process/stream-input",
        &["stream-input-missing", "stream-input-lost"],
        "StreamInput takes input in several messages.",
        |c| Box::pin(stream_input(c)),
    ),
    Check::new(
        "process/stream-keepalive",
        &["stream-input-keepalive-refused"],
        "StreamInput takes keep-alive messages as nothing.",
        |c| Box::pin(stream_keepalive(c)),
    ),
];

pub async fn send(c: &Context, sandbox: &Sandbox, pid: u64, bytes: &[u8]) -> Result<Reply, Stop> {
    let body = json!({ "process": { "pid": pid }, "input": { "stdin": base64(bytes) } });
    sandbox.rpc(c, "process.Process/SendInput", &body).await
}

pub async fn close(c: &Context, sandbox: &Sandbox, pid: u64) -> Result<Reply, Stop> {
    sandbox
        .rpc(
            c,
            "process.Process/CloseStdin",
            &json!({ "process": { "pid": pid } }),
        )
        .await
}

async fn cat(c: &Context, stdin: Option<bool>) -> Result<(Sandbox, Process), Stop> {
    let sandbox = c.shared().await?;
    let mut body = shell("cat", json!({}));
    body["stdin"] = stdin.map_or(Value::Null, Value::Bool);
    if stdin.is_none() {
        body = json!({ "process": body["process"] });
    }
    let process = sandbox.start(c, &body).await?;
    Ok((sandbox, process))
}

async fn stdin(c: Context) -> Verdict {
    let (sandbox, mut process) = cat(&c, Some(true)).await?;
    send(&c, &sandbox, process.pid, b"hello\n")
        .await?
        .status(200)?;
    let pid = process.pid;
    let seen = tokio::time::timeout(c.limit(5.0), process.until(&c, "hello\n")).await;
    super::start::end(&c, &sandbox, pid).await;
    match seen {
        Ok(seen) => seen.map(|_| ()),
        Err(_) => Err(crate::check::fail("the input back from `cat`", "nothing")),
    }
}

async fn ended(c: &Context, sandbox: &Sandbox, process: Process) -> Result<String, Stop> {
    let pid = process.pid;
    let done = tokio::time::timeout(c.limit(5.0), process.finish(c)).await;
    match done {
        Ok(done) => Ok(done?.out()),
        Err(_) => {
            super::start::end(c, sandbox, pid).await;
            Err(crate::check::fail("an end of `cat`", "it went on reading"))
        }
    }
}

async fn close_stdin(c: Context) -> Verdict {
    let (sandbox, process) = cat(&c, Some(true)).await?;
    close(&c, &sandbox, process.pid).await?.status(200)?;
    ended(&c, &sandbox, process).await.map(|_| ())
}

async fn close_twice(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let mut body = shell("sleep 60", json!({}));
    body["stdin"] = json!(true);
    let process = sandbox.start(&c, &body).await?;
    close(&c, &sandbox, process.pid).await?.status(200)?;
    let second = close(&c, &sandbox, process.pid).await?;
    super::start::end(&c, &sandbox, process.pid).await;
    second.status(200).map(|_| ())
}

async fn stdin_false(c: Context) -> Verdict {
    let (sandbox, process) = cat(&c, Some(false)).await?;
    ended(&c, &sandbox, process).await.map(|_| ())
}

async fn stdin_absent(c: Context) -> Verdict {
    let (sandbox, process) = cat(&c, None).await?;
    let sent = send(&c, &sandbox, process.pid, b"open\n").await?;
    let _ = close(&c, &sandbox, process.pid).await?;
    sent.status(200)?;
    equal(
        "output of `cat`",
        ended(&c, &sandbox, process).await?.as_str(),
        "open\n",
    )
}

async fn disabled(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let process = sandbox.start(&c, &shell("sleep 60", json!({}))).await?;
    let reply = send(&c, &sandbox, process.pid, b"x").await?;
    super::start::end(&c, &sandbox, process.pid).await;
    expect(!reply.status.is_success(), "an error", reply.brief())
}

async fn unknown(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    send(&c, &sandbox, 3_999_999, b"x")
        .await?
        .connect_error("not_found", 404)
        .map(|_| ())
}

/// Sends messages of StreamInput; the answer must be one message and an end frame without error.
async fn streamed(c: &Context, sandbox: &Sandbox, messages: &[Value]) -> Verdict {
    let frames: Vec<u8> = messages
        .iter()
        .flat_map(|message| envelope::encoded(0, message.to_string().as_bytes()))
        .collect();
    let request = sandbox
        .agent(c, http::Method::POST, "/process.Process/StreamInput")
        .header("connect-protocol-version", "1")
        .header("content-type", STREAM_JSON)
        .body(frames)
        .chunked();
    let (messages, ending) = c.stream(request).await?.drain(c.usual()).await?;
    let right = messages.len() == 1 && ending.code.is_none();
    expect(
        right,
        "one message and an end frame without error",
        format!("{messages:?} and {ending:?}"),
    )
}

async fn stream_input(c: Context) -> Verdict {
    let (sandbox, process) = cat(&c, Some(true)).await?;
    let data = |bytes: &[u8]| json!({ "data": { "input": { "stdin": base64(bytes) } } });
    let messages = [
        json!({ "start": { "process": { "pid": process.pid } } }),
        data(b"one "),
        data(b"two\n"),
    ];
    let answered = streamed(&c, &sandbox, &messages).await;
    let _ = close(&c, &sandbox, process.pid).await?;
    let out = ended(&c, &sandbox, process).await?;
    answered?;
    equal("output of `cat`", out.as_str(), "one two\n")
}

async fn stream_keepalive(c: Context) -> Verdict {
    let (sandbox, process) = cat(&c, Some(true)).await?;
    let messages = [
        json!({ "start": { "process": { "pid": process.pid } } }),
        json!({ "keepalive": {} }),
        json!({ "data": { "input": { "stdin": base64(b"on\n") } } }),
    ];
    let streamed = streamed(&c, &sandbox, &messages).await;
    let _ = close(&c, &sandbox, process.pid).await?;
    let out = ended(&c, &sandbox, process).await?;
    streamed?;
    equal("output of `cat`", out.as_str(), "on\n")
}
