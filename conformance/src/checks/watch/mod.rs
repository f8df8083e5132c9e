//! Watches of folders: as a stream, and as a queue that is asked.

mod events;
mod polling;
mod stream;

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, fail};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::connect::Stream;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [events::CHECKS, polling::CHECKS, stream::CHECKS].concat()
}

/// A new folder of the shared sandbox.
async fn folder(c: &Context) -> Result<(Sandbox, String), Stop> {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/watch-{}", c.unique());
    make_dir(c, &sandbox, &path).await?;
    Ok((sandbox, path))
}

async fn make_dir(c: &Context, sandbox: &Sandbox, path: &str) -> Verdict {
    let reply = sandbox
        .rpc(c, "filesystem.Filesystem/MakeDir", &json!({ "path": path }))
        .await?;
    let made = reply.status(200).map(|_| ());
    made.map_err(|stop| stop.blocks("a folder could not be made"))
}

/// A file by the shell: as a program in the sandbox makes it.
async fn touch(c: &Context, sandbox: &Sandbox, path: &str) -> Verdict {
    let done = sandbox.run(c, &format!("echo text > {path}")).await?;
    if done.exit_code() == 0 {
        return Ok(());
    }
    Err(Stop::Untestable(format!("{path} could not be written")))
}

/// The body that watches a folder.
fn of(path: &str, more: Value) -> Value {
    let mut body = json!({ "path": path });
    if let Value::Object(more) = more {
        for (name, value) in more {
            body[name] = value;
        }
    }
    body
}

/// A watch that has told its start.
async fn watch(c: &Context, sandbox: &Sandbox, body: &Value) -> Result<Stream, Stop> {
    let request = sandbox.streaming(c, "filesystem.Filesystem/WatchDir", body);
    let mut stream = c.stream(request).await?;
    match stream.message(c.usual()).await? {
        Some(first) if first["start"].is_object() => Ok(stream),
        Some(first) => Err(fail("a start event first", first.to_string())),
        None => {
            let (_, ending) = stream.drain(c.usual()).await?;
            let ended = format!("the stream ended: {ending:?}");
            Err(fail("a start event first", ended))
        }
    }
}

/// Whether an event is of this type and name.
fn is(event: &Value, kind: &str, name: &str) -> bool {
    event["type"] == format!("EVENT_TYPE_{kind}") && event["name"] == name
}

/// Reads events until one is of this type and name; gives all, that one last.
async fn until(
    c: &Context,
    stream: &mut Stream,
    kind: &str,
    name: &str,
) -> Result<Vec<Value>, Stop> {
    let mut seen: Vec<Value> = Vec::new();
    let reading = async {
        while let Some(message) = stream.message(c.usual()).await? {
            if !message["filesystem"].is_object() {
                continue;
            }
            seen.push(message["filesystem"].clone());
            if seen.last().is_some_and(|event| is(event, kind, name)) {
                return Ok(true);
            }
        }
        Ok::<bool, Stop>(false)
    };
    let found = tokio::time::timeout(c.limit(4.0), reading).await;
    if let Ok(found) = found
        && found?
    {
        return Ok(seen);
    }
    Err(fail(
        format!("event {kind} of {name:?}"),
        format!("within {:?} only {}", c.limit(4.0), shown(&seen)),
    ))
}

/// Events in short.
fn shown(events: &[Value]) -> String {
    let words: Vec<String> = events
        .iter()
        .map(|event| {
            let kind = event["type"].as_str().unwrap_or("no type");
            let kind = kind.trim_start_matches("EVENT_TYPE_");
            format!("{kind} {}", event["name"])
        })
        .collect();
    format!("[{}]", words.join(", "))
}
