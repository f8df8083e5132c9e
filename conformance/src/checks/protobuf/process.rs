//! Processes, in protobuf.

use serde_json::{Value, json};

use super::{call, encoded, request, rpc, stream};
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::{Process, Sandbox, shell};
use crate::wire::encode::base64;
use crate::wire::proto;

pub const CHECKS: &[Check] = &[
    Check::new(
        "process/proto-start",
        &["proto-stream-as-json", "proto-bytes-as-base64"],
        "A command runs in protobuf, and its output comes as bytes.",
        |c| Box::pin(start(c)),
    ),
    Check::new(
        "process/proto-exit",
        &["proto-exit-code-plain"],
        "In protobuf an exit code is a sint32.",
        |c| Box::pin(exit(c)),
    ),
    Check::new(
        "process/proto-list",
        &["proto-as-json", "proto-map-lost"],
        "In protobuf List gives processes with their configuration.",
        |c| Box::pin(list(c)),
    ),
    Check::new(
        "process/proto-input",
        &["proto-input-lost"],
        "In protobuf SendInput takes bytes.",
        |c| Box::pin(input(c)),
    ),
    Check::new(
        "process/proto-signal",
        &["proto-signal-by-index"],
        "In protobuf signals go by their numbers.",
        |c| Box::pin(signal(c)),
    ),
    Check::new(
        "process/proto-error",
        &["proto-errors-as-proto"],
        "The error of a call in protobuf is JSON.",
        |c| Box::pin(error(c)),
    ),
    Check::new(
        "process/proto-stream-error",
        &["proto-end-as-proto"],
        "The end frame of a stream in protobuf is JSON.",
        |c| Box::pin(stream_error(c)),
    ),
    Check::new(
        "process/proto-unknown-field",
        &["proto-unknown-field-refused"],
        "An unknown field is passed over.",
        |c| Box::pin(unknown_field(c)),
    ),
    Check::new(
        "process/proto-malformed",
        &["proto-garbage-200"],
        "Bytes that are no message are invalid_argument.",
        |c| Box::pin(malformed(c)),
    ),
];

const START: &str = "process.Process/Start";
const LIST: &str = "process.Process/List";

async fn started(c: &Context, sandbox: &Sandbox, body: &Value) -> Result<Process, Stop> {
    let stream = stream(c, sandbox, START, body).await?;
    sandbox.follow(c, stream).await
}

async fn start(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let body = shell("printf '\\377\\000ok'; echo err >&2", json!({}));
    let done = started(&c, &sandbox, &body).await?.finish(&c).await?;
    equal("standard output", done.stdout.as_slice(), b"\xff\x00ok")?;
    equal("standard error", done.stderr.as_slice(), b"err\n")?;
    equal("exited", &done.end["exited"], &json!(true))
}

async fn exit(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let failed = started(&c, &sandbox, &shell("exit 3", json!({}))).await?;
    equal("exit code", &failed.finish(&c).await?.exit_code(), &3)?;
    let killed = started(&c, &sandbox, &shell("kill -9 $$; sleep 30", json!({}))).await?;
    let body = json!({ "process": { "pid": killed.pid }, "signal": "SIGNAL_SIGKILL" });
    // It may be gone already.
    let _ = call(&c, &sandbox, "process.Process/SendSignal", &body).await?;
    equal(
        "exit code of one that is killed",
        &killed.finish(&c).await?.exit_code(),
        &-1,
    )
}

async fn list(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let tag = c.unique();
    let mut body = shell(
        "sleep 60",
        json!({ "envs": { "MARK": tag }, "cwd": "/tmp" }),
    );
    body["tag"] = json!(tag);
    let process = started(&c, &sandbox, &body).await?;
    let found = rpc(&c, &sandbox, LIST, &json!({})).await;
    let kill = json!({ "process": { "tag": tag }, "signal": "SIGNAL_SIGKILL" });
    let _ = sandbox.rpc(&c, "process.Process/SendSignal", &kill).await?;
    let found = found?;
    let all = found["processes"].as_array().cloned().unwrap_or_default();
    let own = all.iter().find(|one| one["pid"] == process.pid);
    let own =
        own.ok_or_else(|| crate::check::fail("the process in the list", found.to_string()))?;
    equal("tag", &own["tag"], &json!(tag))?;
    equal("environment", &own["config"]["envs"]["MARK"], &json!(tag))?;
    equal("working directory", &own["config"]["cwd"], &json!("/tmp"))
}

async fn input(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let body =
        json!({ "process": { "cmd": "/bin/bash", "args": ["-l", "-c", "cat"] }, "stdin": true });
    let process = started(&c, &sandbox, &body).await?;
    let selector = json!({ "pid": process.pid });
    let typed = json!({ "process": selector, "input": { "stdin": base64(b"typed\xff\n") } });
    rpc(&c, &sandbox, "process.Process/SendInput", &typed).await?;
    rpc(
        &c,
        &sandbox,
        "process.Process/CloseStdin",
        &json!({ "process": selector }),
    )
    .await?;
    equal(
        "what cat gives back",
        process.finish(&c).await?.stdout.as_slice(),
        b"typed\xff\n",
    )
}

async fn signal(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    for (signal, status) in [
        ("SIGNAL_SIGTERM", "terminated"),
        ("SIGNAL_SIGKILL", "killed"),
    ] {
        let body = json!({ "process": { "cmd": "/bin/sleep", "args": ["60"] }, "stdin": false });
        let process = started(&c, &sandbox, &body).await?;
        let body = json!({ "process": { "pid": process.pid }, "signal": signal });
        rpc(&c, &sandbox, "process.Process/SendSignal", &body).await?;
        let done = process.finish(&c).await?;
        equal(
            "status",
            &done.end["status"],
            &json!(format!("signal: {status}")),
        )?;
    }
    Ok(())
}

async fn error(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let body = json!({ "process": { "pid": 999_999 }, "signal": "SIGNAL_SIGKILL" });
    let reply = call(&c, &sandbox, "process.Process/SendSignal", &body).await?;
    reply.connect_error("not_found", 404)?;
    expect(
        reply.header("content-type").starts_with("application/json"),
        "content type application/json",
        reply.header("content-type"),
    )
}

async fn stream_error(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let body = json!({ "process": { "cmd": "/no/such/program" } });
    let mut stream = stream(&c, &sandbox, START, &body).await?;
    let (messages, ending) = stream.drain(c.usual()).await?;
    equal("messages before the end", &messages, &Vec::new())?;
    equal("code", &ending.code.as_deref(), &Some("invalid_argument"))
}

async fn unknown_field(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    // Field 1000, a text, behind a good message.
    let mut bytes = encoded("filesystem.Filesystem/Stat", &json!({ "path": "/tmp" }))?;
    bytes.extend_from_slice(&[0xc2, 0x3e, 2, b'o', b'k']);
    let stat = request(
        &c,
        &sandbox,
        "filesystem.Filesystem/Stat",
        proto::UNARY,
        bytes,
    );
    c.send(stat).await?.status(200).map(|_| ())
}

async fn malformed(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    // A length of 100 and one byte.
    let bytes = vec![0x0a, 100, b'/'];
    let stat = request(
        &c,
        &sandbox,
        "filesystem.Filesystem/Stat",
        proto::UNARY,
        bytes,
    );
    c.send(stat)
        .await?
        .connect_error("invalid_argument", 400)
        .map(|_| ())
}
