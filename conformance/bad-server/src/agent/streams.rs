//! Streams of the process service.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};

use super::User;
use super::connect::{self, Failure, end, frame};
use super::process::{self, Event, Process};
use crate::reply::{bare, header};
use crate::service::until_death;
use crate::world::{Sandbox, World, lock};

/// Seconds between keep-alives, unless the client says.
const KEEPALIVE: u64 = 90;

/// Seconds between keep-alives that a client asks for.
pub fn beat(headers: &HeaderMap) -> u64 {
    header(headers, "keepalive-ping-interval")
        .and_then(|text| text.parse().ok())
        .unwrap_or(KEEPALIVE)
        .max(1)
}

pub async fn answer(
    w: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    call: (&str, &str),
    headers: &HeaderMap,
    who: Result<User, Failure>,
    body: &[u8],
) -> Response {
    match begun(w, sandbox, call, headers, who, body) {
        Ok(response) => response,
        Err(failure) if w.on("stream-errors-by-status") => connect::unary(w, Err(failure)),
        Err(_) if w.on("stream-errors-lost") => streamed(w, end(None)),
        Err(failure) => streamed(w, end(Some(&failure))),
    }
}

pub fn streamed(w: &World, body: impl Into<axum::body::Body>) -> Response {
    let kind = if w.on("stream-as-json") {
        "application/json"
    } else {
        "application/connect+json"
    };
    bare(200, kind, body)
}

fn begun(
    w: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    call: (&str, &str),
    headers: &HeaderMap,
    who: Result<User, Failure>,
    body: &[u8],
) -> Result<Response, Failure> {
    let messages = connect::messages(body);
    let messages = if w.on("malformed-frame-starts") {
        messages.or(Ok(Vec::new()))
    } else {
        messages
    }?;
    let first = messages.first().cloned().unwrap_or_else(|| {
        if w.on("malformed-frame-starts") {
            json!({ "process": { "cmd": "/bin/true" } })
        } else {
            Value::Null
        }
    });
    let who = who?;
    let (process, events) = match call {
        ("process.Process", "Start") => process::start(w, sandbox, &who, &first)?,
        ("process.Process", "Connect") => match process::selected(sandbox, &first) {
            Err(_) if ended(w, sandbox, &first).is_some() => {
                let frames = ended(w, sandbox, &first).unwrap_or_default();
                return Ok(streamed(w, frames));
            }
            Err(_) if w.on("connect-of-missing-empty") => return Ok(streamed(w, end(None))),
            Err(failure) => return Err(failure),
            Ok(process) => {
                let events = process.events.subscribe();
                if w.on("connect-replays") {
                    process.tell(Event::Data("stdout", b"before\n".to_vec()));
                }
                (process, events)
            }
        },
        ("process.Process", "StreamInput") if !w.on("stream-input-missing") => {
            return stream_input(w, sandbox, &messages);
        }
        ("filesystem.Filesystem", "WatchDir") => {
            return super::watch::stream(w, sandbox, &who, headers, &first);
        }
        _ => return Err(Failure::new("unimplemented", "no such method")),
    };
    let own = call.1 == "Start";
    let (sender, receiver) = mpsc::unbounded_channel();
    let deadline = header(headers, "connect-timeout-ms")
        .and_then(|text| text.parse().ok())
        .map(Duration::from_millis);
    let feed = Feed {
        w: Arc::clone(w),
        process,
        own,
        beat: beat(headers),
        deadline,
    };
    tokio::spawn(feed.run(events, sender));
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes: Bytes| (bytes, receiver))
    });
    Ok(streamed(w, until_death(w, sandbox, pieces.boxed())))
}

/// The stream of a process that is over already.
fn ended(w: &World, sandbox: &Sandbox, body: &Value) -> Option<Vec<u8>> {
    let pid = u32::try_from(body["process"]["pid"].as_u64()?).ok()?;
    let over = lock(&sandbox.ended).get(&pid).cloned();
    let over = over.filter(|_| !w.on("ended-forgotten"))?;
    let frames = [
        frame(0, &json!({ "event": { "start": { "pid": pid } } })),
        frame(0, &json!({ "event": { "end": over } })),
        end(None),
    ];
    Some(frames.concat())
}

fn stream_input(w: &World, sandbox: &Sandbox, messages: &[Value]) -> Result<Response, Failure> {
    let mut target: Option<Arc<Process>> = None;
    for message in messages {
        if message["keepalive"].is_object() && w.on("stream-input-keepalive-refused") {
            return Err(Failure::new("invalid_argument", "unknown message"));
        }
        if message["start"].is_object() {
            target = Some(process::selected(sandbox, &message["start"])?);
        } else if message["data"].is_object() {
            let process = target
                .as_ref()
                .ok_or_else(|| Failure::new("invalid_argument", "no start message"))?;
            if !w.on("stream-input-lost") {
                process::input(w, process, &message["data"]["input"])?;
            }
        }
    }
    let body = [frame(0, &json!({})), end(None)].concat();
    Ok(streamed(w, body))
}

/// Turns events into frames.
struct Feed {
    w: Arc<World>,
    process: Arc<Process>,
    own: bool,
    beat: u64,
    deadline: Option<Duration>,
}

impl Feed {
    async fn run(self, mut events: broadcast::Receiver<Event>, out: mpsc::UnboundedSender<Bytes>) {
        let w = &self.w;
        let send = |value: Value| out.send(frame(0, &json!({ "event": value }))).is_ok();
        if !w.on("no-start-event") {
            send(json!({ "start": { "pid": self.process.pid } }));
        }
        let late = async {
            match self.deadline.filter(|_| !w.on("deadline-ignored")) {
                Some(deadline) => tokio::time::sleep(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(late);
        loop {
            let idle = tokio::time::sleep(Duration::from_secs(self.beat));
            tokio::select! {
                event = events.recv() => match event {
                    Ok(Event::Data("pty", _)) if !self.own && w.on("pty-connect-silent") => {}
                    Ok(Event::Data(kind, bytes)) => {
                        let kind = renamed(w, kind);
                        let shown = if w.on("output-lossy") {
                            String::from_utf8_lossy(&bytes).into_owned().into_bytes()
                        } else {
                            bytes
                        };
                        send(json!({ "data": { kind: STANDARD.encode(shown) } }));
                    }
                    Ok(Event::End(end)) => {
                        if !w.on("no-end-event") {
                            send(json!({ "end": end }));
                        }
                        if w.on("data-after-end") {
                            send(json!({ "data": { "stdout": STANDARD.encode("late") } }));
                        }
                        break;
                    }
                    Err(_) => break,
                },
                () = idle => {
                    if !w.on("no-keepalive") {
                        send(json!({ "keepalive": {} }));
                    }
                }
                () = &mut late => {
                    if !w.on("deadline-leaves-process") {
                        self.process.signal.send_replace(Some("killed"));
                    }
                    let code = if w.on("deadline-code-canceled") { "canceled" } else { "deadline_exceeded" };
                    let _ = out.send(end(Some(&Failure::new(code, "the deadline is over"))));
                    return;
                }
                () = out.closed() => {
                    if self.own && w.on("disconnect-kills") {
                        self.process.signal.send_replace(Some("killed"));
                    }
                    // The deadline is the process's, whether its client is there or not.
                    if self.deadline.is_some() && !w.on("deadline-leaves-process") {
                        late.await;
                        self.process.signal.send_replace(Some("killed"));
                    }
                    return;
                }
            }
        }
        if !w.on("no-end-frame") {
            let _ = out.send(end(None));
        }
    }
}

fn renamed(w: &World, kind: &'static str) -> &'static str {
    match kind {
        "stdout" if w.on("stdout-as-stderr") => "stderr",
        "stderr" if w.on("stderr-as-stdout") => "stdout",
        "pty" if w.on("pty-as-stdout") => "stdout",
        kind => kind,
    }
}
