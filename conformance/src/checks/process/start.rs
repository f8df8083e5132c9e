//! Starting, listing, selecting.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::sandbox::{Sandbox, shell};
use crate::wire::encode::user;

pub const CHECKS: &[Check] = &[
    Check::new(
        "process/start-event",
        &["no-start-event"],
        "A process's stream begins with its start event.",
        |c| Box::pin(start_event(c)),
    ),
    Check::new(
        "process/stream-form",
        &["stream-as-json", "no-end-frame"],
        "A stream is 200, application/connect+json, and ends with an end frame.",
        |c| Box::pin(stream_form(c)),
    ),
    Check::new(
        "process/list",
        &["list-empty", "list-without-config"],
        "A running process is listed with pid and configuration.",
        |c| Box::pin(listed(c)),
    ),
    Check::new(
        "process/list-forgets",
        &["list-keeps-ended"],
        "When a process's stream ends, the process is no longer listed.",
        |c| Box::pin(forgets(c)),
    ),
    Check::new(
        "process/tag",
        &["tag-ignored"],
        "A process is found by its tag.",
        |c| Box::pin(tag(c)),
    ),
    Check::new(
        "process/missing-program",
        &[
            "missing-binary-starts",
            "stream-errors-by-status",
            "stream-errors-lost",
        ],
        "A program that there is not is invalid_argument, in the stream's end frame.",
        |c| Box::pin(missing_program(c)),
    ),
    Check::new(
        "process/default-user",
        &["default-user-root"],
        "Without Authorization a process runs as `user`.",
        |c| Box::pin(default_user(c)),
    ),
    Check::new(
        "process/basic-user",
        &["basic-user-ignored"],
        "Basic authorization chooses the user.",
        |c| Box::pin(basic_user(c)),
    ),
    Check::new(
        "process/unknown-user",
        &[
            "unknown-user-accepted",
            "unknown-user-words",
            "unknown-user-internal",
        ],
        "An unknown user is unauthenticated: invalid username.",
        |c| Box::pin(unknown_user(c)),
    ),
    Check::new(
        "process/unknown-member",
        &["unknown-member-refused"],
        "Unknown members of a message are ignored.",
        |c| Box::pin(unknown_member(c)),
    ),
    Check::new(
        "process/unary-type",
        &["unary-as-text"],
        "A unary answer is application/json.",
        |c| Box::pin(unary_type(c)),
    ),
    Check::new(
        "process/unknown-method",
        &["unknown-method-200"],
        "An unknown method is an error.",
        |c| Box::pin(unknown_method(c)),
    ),
    Check::new(
        "process/malformed-call",
        &["malformed-call-internal"],
        "A message that is no JSON is invalid_argument.",
        |c| Box::pin(malformed_call(c)),
    ),
    Check::new(
        "process/malformed-frame",
        &["malformed-frame-starts"],
        "A frame that is no JSON starts nothing.",
        |c| Box::pin(malformed_frame(c)),
    ),
];

/// Pids of the listed processes, with their items.
pub async fn list(c: &Context, sandbox: &Sandbox) -> Result<Vec<Value>, Stop> {
    let body = sandbox
        .rpc(c, "process.Process/List", &json!({}))
        .await?
        .status(200)?
        .json()?;
    Ok(body["processes"].as_array().cloned().unwrap_or_default())
}

/// Kills a process; the shared sandbox should not fill up.
pub async fn end(c: &Context, sandbox: &Sandbox, pid: u64) {
    let body = json!({ "process": { "pid": pid }, "signal": "SIGNAL_SIGKILL" });
    let _ = sandbox.rpc(c, "process.Process/SendSignal", &body).await;
}

async fn start_event(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let process = sandbox.start(&c, &shell("echo hello", json!({}))).await?;
    expect(process.pid > 0, "a pid", process.pid.to_string())
}

async fn stream_form(c: Context) -> Verdict {
    let done = c.shared().await?.run(&c, "true").await?;
    expect(
        done.code.is_none(),
        "an end frame without error",
        format!("{:?}", done.code),
    )
}

async fn listed(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let process = sandbox.start(&c, &shell("sleep 60", json!({}))).await?;
    let items = list(&c, &sandbox).await?;
    end(&c, &sandbox, process.pid).await;
    let item = items
        .iter()
        .find(|item| item["pid"].as_u64() == Some(process.pid));
    let item = item.ok_or_else(|| {
        fail(
            format!("pid {} in the list", process.pid),
            json!(items).to_string(),
        )
    })?;
    equal("config.cmd", &item["config"]["cmd"], &json!("/bin/bash"))?;
    equal(
        "config.args",
        &item["config"]["args"],
        &json!(["-l", "-c", "sleep 60"]),
    )
}

async fn forgets(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let done = sandbox.run(&c, "true").await?;
    let items = list(&c, &sandbox).await?;
    let there = items
        .iter()
        .any(|item| item["pid"].as_u64() == Some(done.pid));
    expect(
        !there,
        format!("pid {} no longer in the list", done.pid),
        json!(items).to_string(),
    )
}

async fn tag(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let tag = c.unique();
    let mut body = shell("sleep 60", json!({}));
    body["tag"] = json!(tag);
    let process = sandbox.start(&c, &body).await?;
    let kill = json!({ "process": { "tag": tag }, "signal": "SIGNAL_SIGKILL" });
    let reply = sandbox.rpc(&c, "process.Process/SendSignal", &kill).await?;
    if !reply.status.is_success() {
        end(&c, &sandbox, process.pid).await;
    }
    reply.status(200)?;
    let done = process.finish(&c).await?;
    expect(
        done.end["exited"] != true,
        "a killed process",
        done.end.to_string(),
    )
}

async fn missing_program(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let body = json!({ "process": { "cmd": "/no/such/program", "args": [] }, "stdin": false });
    refused(
        &c,
        &sandbox,
        sandbox.streaming(&c, "process.Process/Start", &body),
        "invalid_argument",
    )
    .await
    .map(|_| ())
}

/// The start must fail, by the stream's end frame, with this code. Gives the message.
pub async fn refused(
    c: &Context,
    _: &Sandbox,
    request: crate::wire::request::Request,
    code: &str,
) -> Result<String, Stop> {
    let mut stream = c.stream(request).await?;
    let (messages, ending) = stream.drain(c.usual()).await?;
    let right = messages.is_empty() && ending.code.as_deref() == Some(code);
    if right {
        return Ok(ending.message);
    }
    Err(fail(
        format!("no event and an end frame with error {code}"),
        format!("{} events and {ending:?}", messages.len()),
    ))
}

async fn default_user(c: Context) -> Verdict {
    let done = c.shared().await?.run(&c, "id -un").await?;
    equal("id -un", done.out().trim(), "user")
}

async fn basic_user(c: Context) -> Verdict {
    let done = c
        .shared()
        .await?
        .run_with(&c, "id -un", json!({}), Some("root"))
        .await?;
    equal("id -un", done.out().trim(), "root")
}

async fn unknown_user(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let request = sandbox
        .streaming(&c, "process.Process/Start", &shell("true", json!({})))
        .header("authorization", user("nobody-of-this-name"));
    let message = refused(&c, &sandbox, request, "unauthenticated").await?;
    let wanted = "invalid username: 'nobody-of-this-name'";
    expect(
        message.contains(wanted),
        format!("a message with {wanted:?}"),
        message,
    )
}

async fn unknown_member(c: Context) -> Verdict {
    let body = json!({ "fromTheFuture": { "a": 1 } });
    c.shared()
        .await?
        .rpc(&c, "process.Process/List", &body)
        .await?
        .status(200)
        .map(|_| ())
}

async fn unary_type(c: Context) -> Verdict {
    let reply = c
        .shared()
        .await?
        .rpc(&c, "process.Process/List", &json!({}))
        .await?;
    reply.status(200)?;
    let kind = reply.header("content-type");
    expect(
        kind.starts_with("application/json"),
        "content type application/json",
        kind,
    )
}

async fn unknown_method(c: Context) -> Verdict {
    let reply = c
        .shared()
        .await?
        .rpc(&c, "process.Process/Fly", &json!({}))
        .await?;
    reply.one_of(&[404, 501]).map(|_| ())
}

async fn malformed_call(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let request = sandbox
        .call(&c, "process.Process/List", &json!({}))
        .body("{\"process\": ");
    c.send(request)
        .await?
        .connect_error("invalid_argument", 400)
        .map(|_| ())
}

async fn malformed_frame(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let frame = crate::wire::envelope::encoded(0, b"{\"process\": ");
    let request = sandbox
        .streaming(&c, "process.Process/Start", &json!({}))
        .body(frame);
    refused(&c, &sandbox, request, "invalid_argument")
        .await
        .map(|_| ())
}
