//! A command, by the process service: one request, a stream of events until it has ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method};
use serde_json::{Value, json};

use super::sandbox::AGENT;
use super::{CallError, Client, Sandbox};
use crate::wire::WireError;
use crate::wire::envelope::{Frames, encode};
use crate::wire::pool::Ask;
use crate::wire::reply::Opened;

/// Most output that is kept of a command that is measured; the rest is counted alone.
const MAX_OUTPUT: usize = 64 << 10;
/// Most bytes that a stream may bring.
const MAX_STREAM: usize = 1 << 30;

/// What is run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The program and its arguments.
    pub argv: &'a [&'a str],
    /// Its variables, beside the sandbox's.
    pub envs: &'a BTreeMap<String, String>,
    /// Its working directory; the user's home when absent.
    pub cwd: Option<&'a str>,
    /// Longest run.
    pub limit: Duration,
    /// Most bytes that are kept of each stream.
    pub keep: usize,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// When its exit event had been received.
    pub at: Instant,
    /// Its exit code.
    pub exit: i64,
    /// The first of what it wrote to standard output.
    pub stdout: Bytes,
    /// Bytes that it wrote to standard output.
    pub stdout_bytes: usize,
    /// The first of what it wrote to standard error.
    pub stderr: Bytes,
}

impl Client {
    /// Runs a command to its end.
    ///
    /// # Errors
    /// See [`CallError`]; an exit code other than 0 is none.
    pub async fn exec(&self, sandbox: &Sandbox, argv: &[&str]) -> Result<Ended, CallError> {
        let command = Command {
            argv,
            envs: &BTreeMap::new(),
            cwd: None,
            limit: self.target.limits.call,
            keep: MAX_OUTPUT,
        };
        self.run(sandbox, &command).await
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// See [`CallError`]; an exit code other than 0 is none.
    pub async fn run(&self, sandbox: &Sandbox, command: &Command<'_>) -> Result<Ended, CallError> {
        let limit = command.limit;
        let [cmd, args @ ..] = command.argv else {
            return Err(CallError::Lacks("command"));
        };
        let mut process = json!({"cmd": cmd, "args": args});
        if !command.envs.is_empty() {
            process["envs"] = json!(command.envs);
        }
        if let Some(cwd) = command.cwd {
            process["cwd"] = json!(cwd);
        }
        let body = json!({"process": process, "stdin": false});
        let mut ask = self.inside(
            sandbox,
            AGENT,
            Method::POST,
            "/process.Process/Start".to_owned(),
            encode(body.to_string().as_bytes()),
        );
        let json = HeaderValue::from_static("application/connect+json");
        ask.headers.push(("content-type", json));
        let version = HeaderValue::from_static("1");
        ask.headers.push(("connect-protocol-version", version));
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        ask.headers
            .push(("connect-timeout-ms", HeaderValue::from(millis)));
        ask.limit = ask.limit.max(limit);
        tokio::time::timeout(limit, self.streamed(&ask, command.keep))
            .await
            .map_err(|_| WireError::Late(limit))?
    }

    /// Runs `/bin/true`: the least that a sandbox has to be good for.
    ///
    /// # Errors
    /// See [`CallError`]; any end but a good one is one.
    pub async fn answers(&self, sandbox: &Sandbox) -> Result<Instant, CallError> {
        let ended = self.exec(sandbox, &["/bin/true"]).await?;
        match ended.exit {
            0 => Ok(ended.at),
            exit => Err(CallError::Exit(exit)),
        }
    }

    async fn streamed(&self, ask: &Ask, keep: usize) -> Result<Ended, CallError> {
        let (mut opened, connection) = self.pool.open(ask).await?;
        if !opened.status.is_success() {
            let reply = opened.whole(ask.max_reply).await?;
            return Err(CallError::refused(reply.status, &reply.body));
        }
        let ended = events(&mut opened, keep).await?;
        // The rest of the body is the last chunk's end; a connection that does not bring it is not kept.
        while opened.piece().await?.is_some() {}
        self.pool.give_back(ask, connection);
        Ok(ended)
    }
}

async fn events(opened: &mut Opened, keep: usize) -> Result<Ended, CallError> {
    let mut frames = Frames::default();
    let mut taken = 0;
    let mut seen = Seen {
        keep,
        ..Seen::default()
    };
    while let Some(piece) = opened.piece().await? {
        taken += piece.len();
        if taken > MAX_STREAM {
            return Err(WireError::Long(MAX_STREAM).into());
        }
        frames.push(&piece);
        while let Some(frame) = frames.next_frame()? {
            let value: Value =
                serde_json::from_slice(&frame.payload).map_err(|_| CallError::Lacks("JSON"))?;
            if frame.last {
                return seen.end(&value);
            }
            seen.event(&value["event"]);
        }
    }
    Err(CallError::Lacks("end of the stream"))
}

/// What a stream has told so far.
#[derive(Debug, Default)]
struct Seen {
    keep: usize,
    exit: Option<(Instant, i64)>,
    stdout: BytesMut,
    stdout_bytes: usize,
    stderr: BytesMut,
}

impl Seen {
    fn event(&mut self, event: &Value) {
        if let Some(end) = event.get("end") {
            // Members with their default value may be left out.
            let exit = end.get("exitCode").and_then(Value::as_i64).unwrap_or(0);
            self.exit = Some((Instant::now(), exit));
        } else if let Some(text) = event["data"]["stdout"].as_str() {
            self.stdout_bytes += keep(&mut self.stdout, self.keep, text);
        } else if let Some(text) = event["data"]["stderr"].as_str() {
            keep(&mut self.stderr, self.keep, text);
        }
    }

    fn end(self, last: &Value) -> Result<Ended, CallError> {
        if let Some(error) = last.get("error") {
            let text = |name: &str| super::error::short(error[name].as_str().unwrap_or("unknown"));
            return Err(CallError::Stream {
                code: text("code"),
                message: text("message"),
            });
        }
        let (at, exit) = self.exit.ok_or(CallError::Lacks("end of the command"))?;
        Ok(Ended {
            at,
            exit,
            stdout: self.stdout.freeze(),
            stdout_bytes: self.stdout_bytes,
            stderr: self.stderr.freeze(),
        })
    }
}

/// Keeps what there is room for of a piece of output, and gives its length. What is no base64 is no output.
fn keep(kept: &mut BytesMut, most: usize, text: &str) -> usize {
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let room = most.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_stream_so_much_is_kept() {
        let mut seen = Seen {
            keep: 5,
            ..Seen::default()
        };
        for name in ["stdout", "stderr", "stdout"] {
            seen.event(&json!({"data": {name: STANDARD.encode("abcd")}}));
        }
        seen.event(&json!({"data": {"stderr": "?"}}));
        seen.event(&json!({"end": {}}));
        let ended = seen.end(&json!({})).unwrap();
        assert_eq!((&ended.stdout[..], ended.stdout_bytes), (&b"abcda"[..], 8));
        assert_eq!(&ended.stderr[..], b"abcd");
    }

    #[test]
    fn a_stream_without_an_exit_is_a_failure() {
        let mut seen = Seen::default();
        seen.event(&json!({"start": {"pid": 3}}));
        assert!(matches!(seen.end(&json!({})), Err(CallError::Lacks(_))));
        let mut seen = Seen::default();
        seen.event(&json!({"end": {"exited": true}}));
        assert_eq!(seen.end(&json!({})).unwrap().exit, 0);
        let late = json!({"error": {"code": "deadline_exceeded", "message": "late"}});
        let told = Seen::default().end(&late).unwrap_err();
        assert_eq!(
            (told.kind().as_str(), told.to_string().as_str()),
            ("deadline_exceeded", "deadline_exceeded: late")
        );
    }
}
