//! An agent in this process, and a client that speaks to it as SDKs do: raw HTTP, Connect envelopes.
//!
//! Each test has its own agent on its own port, with its own users in a scratch root. Programs really run, as users of
//! this machine's kernel: the tests need root.
#![allow(dead_code)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use guest_agent::agent::Agent;
use guest_agent::listen::connection::Connections;
use guest_agent::listen::loopback;
use guest_agent::machine::Untouched;
use guest_agent::process::Processes;
use guest_agent::process::reaper::{Adoption, Reaper};
use guest_agent::services::Services;
use guest_agent::state::{AgentState, Settings};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

/// Uid and gid of `user` in the scratch root; nobody of this machine.
pub const USER_ID: u32 = 61_234;

/// A supplementary group of `user`.
pub const EXTRA_GID: u32 = 61_500;

/// Longest time that something may take which is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub address: SocketAddr,
    pub services: Services,
    root: TempDir,
}

impl Server {
    /// An agent that is configured and needs no token.
    pub async fn start() -> Self {
        Self::with(Settings {
            configured: true,
            ..Settings::default()
        })
        .await
    }

    pub async fn with(settings: Settings) -> Self {
        let root = scratch_root();
        let reaper = Reaper::new(Adoption::OwnOnly);
        reaper.start().expect("a reaper");
        let state = AgentState::with_settings(root.path(), settings);
        let agent = Agent::new(state, Processes::new(reaper, None), Box::new(Untouched));
        let services = Services::new(agent, root.path().join("run"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(loopback::accept(listener, services.envd.clone()));
        Self {
            address,
            services,
            root,
        }
    }

    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub fn connections(&self) -> Connections {
        Connections::new(self.services.clone())
    }

    pub fn agent(&self) -> &Arc<Agent> {
        &self.services.agent
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP/1.1");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("a response")
    }

    /// The same with HTTP/2 without TLS.
    pub async fn send_h2c(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("a response")
    }

    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("host", self.address.to_string())
    }

    /// A plain HTTP call; the body as JSON, or `null` when it is none.
    pub async fn http(&self, method: &str, path: &str, token: Option<&str>) -> (StatusCode, Value) {
        let mut request = self.request(method, path);
        if let Some(token) = token {
            request = request.header("x-access-token", token);
        }
        read_json(
            self.send(request.body(Full::default()).expect("a request"))
                .await,
        )
        .await
    }

    /// A unary Connect call with the JSON codec.
    pub async fn unary(&self, method: &str, body: Value) -> (StatusCode, Value) {
        self.unary_with(method, body, &[]).await
    }

    pub async fn unary_with(
        &self,
        method: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> (StatusCode, Value) {
        let mut request = self
            .request("POST", &format!("/{method}"))
            .header("content-type", "application/json")
            .header("connect-protocol-version", "1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::from(body.to_string());
        read_json(self.send(request.body(body).expect("a request")).await).await
    }

    /// A server stream with the JSON codec.
    pub async fn stream(&self, method: &str, body: Value, headers: &[(&str, &str)]) -> Events {
        let mut request = self
            .request("POST", &format!("/{method}"))
            .header("content-type", "application/connect+json")
            .header("connect-protocol-version", "1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::from(envelope(0, body.to_string().as_bytes()));
        let response = self.send(request.body(body).expect("a request")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()["content-type"],
            "application/connect+json"
        );
        Events {
            envelopes: Envelopes::new(response.into_body()),
        }
    }

    /// Starts a shell command.
    pub async fn shell(&self, command: &str) -> Events {
        self.shell_with(command, json!({}), &[]).await
    }

    /// Starts a shell command; `extra` is merged into the request.
    pub async fn shell_with(
        &self,
        command: &str,
        extra: Value,
        headers: &[(&str, &str)],
    ) -> Events {
        let mut request =
            json!({"process": {"cmd": "/bin/sh", "args": ["-c", command]}, "stdin": false});
        merge(&mut request, extra);
        self.stream("process.Process/Start", request, headers).await
    }

    /// Pids in List.
    pub async fn list(&self) -> Vec<u64> {
        let (status, body) = self.unary("process.Process/List", json!({})).await;
        assert_eq!(status, StatusCode::OK);
        let processes = body["processes"].as_array().cloned().unwrap_or_default();
        processes
            .iter()
            .map(|process| process["pid"].as_u64().expect("a pid"))
            .collect()
    }

    pub async fn kill(&self, pid: u64) -> (StatusCode, Value) {
        let body = json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"});
        self.unary("process.Process/SendSignal", body).await
    }

    pub async fn input(&self, pid: u64, kind: &str, bytes: &[u8]) -> (StatusCode, Value) {
        let body = json!({"process": {"pid": pid}, "input": {kind: STANDARD.encode(bytes)}});
        self.unary("process.Process/SendInput", body).await
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn scratch_root() -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    let home = root.path().join("home");
    fs::create_dir(&home).expect("a home");
    fs::create_dir(root.path().join("etc")).expect("etc");
    // The user must be able to reach its home.
    fs::set_permissions(
        root.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("readable");
    chown(&home, Some(USER_ID), Some(USER_ID)).expect("the tests need root");
    let passwd = format!(
        "root:x:0:0::/root:/bin/sh\nuser:x:{USER_ID}:{USER_ID}::{}:/bin/sh\n",
        home.display()
    );
    fs::write(root.path().join("etc/passwd"), passwd).expect("written");
    fs::write(
        root.path().join("etc/group"),
        format!("extra:x:{EXTRA_GID}:user\n"),
    )
    .expect("written");
    root
}

pub async fn read_json(response: http::Response<Incoming>) -> (StatusCode, Value) {
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// One Connect envelope.
pub fn envelope(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags];
    bytes.extend(u32::try_from(payload.len()).expect("short").to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Envelopes of a response body.
pub struct Envelopes {
    body: Incoming,
    buffer: BytesMut,
}

impl Envelopes {
    pub fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
        }
    }

    /// Flags and payload of the next envelope.
    pub async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some(header) = self.buffer.get(..5) {
                let length = u32::from_be_bytes(header[1..5].try_into().expect("4 bytes"));
                let length = usize::try_from(length).expect("fits");
                if self.buffer.len() >= 5 + length {
                    let mut whole = self.buffer.split_to(5 + length);
                    let flags = whole[0];
                    return Some((flags, whole.split_off(5).freeze()));
                }
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .expect("in time");
            match frame {
                Some(frame) => {
                    if let Ok(data) = frame.expect("a frame").into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => {
                    assert!(self.buffer.is_empty(), "the body ends between envelopes");
                    return None;
                }
            }
        }
    }
}

/// Process events of a stream.
pub struct Events {
    envelopes: Envelopes,
}

/// One message of a stream, or its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Event(Value),
    /// The end of the stream with its error code, if there is one.
    End(Option<String>, Option<String>),
}

impl Events {
    pub async fn next(&mut self) -> Item {
        let (flags, payload) = self
            .envelopes
            .next()
            .await
            .expect("the end envelope comes last");
        let value: Value = serde_json::from_slice(&payload).expect("JSON");
        match flags {
            0 => Item::Event(value["event"].clone()),
            2 => {
                let text = |name: &str| value["error"][name].as_str().map(str::to_owned);
                Item::End(text("code"), text("message"))
            }
            other => panic!("flags {other}"),
        }
    }

    /// Pid of the start event, which must come first.
    pub async fn pid(&mut self) -> u64 {
        match self.next().await {
            Item::Event(event) => event["start"]["pid"].as_u64().expect("start comes first"),
            end => panic!("{end:?}"),
        }
    }

    /// Reads output until it holds `wanted` (of any kind).
    pub async fn until(&mut self, wanted: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(wanted) {
            match self.next().await {
                Item::Event(event) => {
                    for kind in ["stdout", "stderr", "pty"] {
                        seen.push_str(&text_of(&event["data"][kind]));
                    }
                }
                end => panic!("{end:?} before {wanted:?}; seen {seen:?}"),
            }
        }
        seen
    }

    /// Reads to the end of the stream.
    pub async fn rest(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            match self.next().await {
                Item::Event(event) => outcome.take(&event),
                Item::End(code, message) => {
                    assert!(
                        self.envelopes.next().await.is_none(),
                        "nothing after the end"
                    );
                    outcome.error = code;
                    outcome.message = message;
                    return outcome;
                }
            }
        }
    }
}

pub fn bytes_of(value: &Value) -> Vec<u8> {
    STANDARD
        .decode(value.as_str().unwrap_or_default())
        .expect("base64")
}

fn text_of(value: &Value) -> String {
    String::from_utf8_lossy(&bytes_of(value)).into_owned()
}

/// Everything a stream told.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub pid: Option<u64>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub pty: Vec<u8>,
    pub keepalives: usize,
    pub longest_chunk: usize,
    /// The end event.
    pub end: Option<Value>,
    /// Error code of the stream's end.
    pub error: Option<String>,
    pub message: Option<String>,
}

impl Outcome {
    fn take(&mut self, event: &Value) {
        assert!(self.end.is_none(), "nothing comes after the end event");
        if let Some(pid) = event["start"]["pid"].as_u64() {
            assert_eq!(self.pid.replace(pid), None, "one start event");
        } else if event["data"].is_object() {
            for (kind, all) in [
                ("stdout", &mut self.stdout),
                ("stderr", &mut self.stderr),
                ("pty", &mut self.pty),
            ] {
                let bytes = bytes_of(&event["data"][kind]);
                self.longest_chunk = self.longest_chunk.max(bytes.len());
                all.extend(bytes);
            }
        } else if event["keepalive"].is_object() {
            self.keepalives += 1;
        } else {
            self.end = Some(event["end"].clone());
        }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Exit code of the end event; absent means 0 in proto3 JSON.
    pub fn exit_code(&self) -> i64 {
        let end = self
            .end
            .as_ref()
            .unwrap_or_else(|| panic!("no end event: {self:?}"));
        end["exitCode"].as_i64().unwrap_or(0)
    }
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited)
        .await
        .unwrap_or_else(|_| panic!("{what} does not happen"));
}

/// Whether a process of that pid exists and is not a zombie.
pub fn is_alive(pid: u64) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

pub fn header_value(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}
