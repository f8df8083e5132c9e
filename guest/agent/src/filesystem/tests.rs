//! The service as a client meets it: raw Connect requests in JSON against its router.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectrpc::ConnectRpcService;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::rpc;
use crate::state::{AgentState, Settings};

/// A sandbox of one directory, whose user is whoever runs the tests.
struct Sandbox {
    dir: TempDir,
    service: ConnectRpcService,
}

impl Sandbox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let (uid, gid) = (uid.as_raw(), gid.as_raw());
        let passwd = format!("user:x:{uid}:{gid}::{}:/bin/sh\n", home.display());
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        fs::write(dir.path().join("etc/group"), format!("people:x:{gid}:\n")).unwrap();
        let settings = Settings {
            configured: true,
            ..Settings::default()
        };
        let state = AgentState::with_settings(dir.path(), settings);
        let router = super::register(state, connectrpc::Router::new());
        Self {
            dir,
            service: rpc::into_service(router),
        }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join("home").join(name)
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.service
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .map(Body::new)
    }

    async fn call(&self, method: &str, body: Value) -> (StatusCode, Value) {
        let request = request(
            method,
            "application/json",
            &[],
            body.to_string().into_bytes(),
        );
        let response = self.send(request).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn ok(&self, method: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, body).await;
        assert_eq!(status, StatusCode::OK, "{method}: {answer}");
        answer
    }

    async fn refused(&self, method: &str, body: Value) -> String {
        let (status, answer) = self.call(method, body).await;
        assert_ne!(status, StatusCode::OK, "{method}: {answer}");
        answer["code"].as_str().unwrap().to_owned()
    }

    async fn watch(&self, body: Value, headers: &[(&str, &str)]) -> Stream {
        let message = body.to_string().into_bytes();
        let mut envelope = vec![0];
        envelope.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        envelope.extend_from_slice(&message);
        let request = request("WatchDir", "application/connect+json", headers, envelope);
        let response = self.send(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        Stream {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }
}

fn request(method: &str, kind: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request<Body> {
    let mut request = Request::post(format!("/filesystem.Filesystem/{method}"))
        .header("content-type", kind)
        .header("connect-protocol-version", "1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body)).unwrap()
}

/// The envelopes of a stream.
struct Stream {
    body: Body,
    buffer: Vec<u8>,
}

impl Stream {
    /// Flags and message of the next envelope.
    async fn next(&mut self) -> (u8, Value) {
        loop {
            if let Some(length) = self.buffer.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + length {
                    let rest = self.buffer.split_off(5 + length);
                    let envelope = std::mem::replace(&mut self.buffer, rest);
                    return (envelope[0], serde_json::from_slice(&envelope[5..]).unwrap());
                }
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame());
            let frame = frame
                .await
                .expect("an envelope in time")
                .expect("no end yet")
                .unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    async fn message(&mut self) -> Value {
        let (flags, message) = self.next().await;
        assert_eq!(flags, 0, "{message}");
        message
    }
}

#[tokio::test]
async fn entries_are_made_moved_listed_and_removed() {
    let sandbox = Sandbox::new();
    let made = sandbox.ok("MakeDir", json!({"path": "a/b"})).await;
    assert_eq!(made["entry"]["path"], json!(sandbox.home("a/b")));
    assert_eq!(made["entry"]["permissions"], "drwxr-xr-x");
    assert_eq!(
        (&made["entry"]["owner"], &made["entry"]["group"]),
        (&json!("user"), &json!("people"))
    );
    fs::write(sandbox.home("a/f"), "12345").unwrap();
    let moved = json!({"source": "a/f", "destination": "c/g"});
    assert_eq!(
        sandbox.ok("Move", moved.clone()).await["entry"]["name"],
        "g"
    );
    assert_eq!(sandbox.refused("Move", moved).await, "not_found");
    let found = sandbox.ok("Stat", json!({"path": "~/c/g"})).await;
    assert_eq!(
        (&found["entry"]["size"], &found["entry"]["type"]),
        (&json!("5"), &json!("FILE_TYPE_FILE"))
    );
    let listed = sandbox
        .ok("ListDir", json!({"path": ".", "depth": 2}))
        .await;
    let names: Vec<_> = listed["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["name"])
        .collect();
    assert_eq!(names, ["a", "b", "c", "g"]);
    assert_eq!(sandbox.ok("Remove", json!({"path": "c"})).await, json!({}));
    assert_eq!(
        sandbox.ok("Remove", json!({"path": "c"})).await,
        json!({}),
        "nothing is no error"
    );
}

#[tokio::test]
async fn refusals_have_the_codes_the_sdks_expect() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.home("d")).unwrap();
    fs::write(sandbox.home("f"), "").unwrap();
    std::os::unix::fs::symlink("loop", sandbox.home("loop")).unwrap();
    for (method, body, code) in [
        ("Stat", json!({"path": "none"}), "not_found"),
        ("Stat", json!({"path": "~other/x"}), "invalid_argument"),
        ("MakeDir", json!({"path": "d"}), "already_exists"),
        ("MakeDir", json!({"path": "f"}), "invalid_argument"),
        ("ListDir", json!({"path": "f"}), "invalid_argument"),
        ("ListDir", json!({"path": "none"}), "not_found"),
        ("ListDir", json!({"path": "loop"}), "failed_precondition"),
        ("CreateWatcher", json!({"path": "none"}), "not_found"),
        ("CreateWatcher", json!({"path": "f"}), "invalid_argument"),
        ("GetWatcherEvents", json!({"watcherId": "w1"}), "not_found"),
        ("RemoveWatcher", json!({"watcherId": "w1"}), "not_found"),
        ("Remove", json!({"path": "/"}), "invalid_argument"),
    ] {
        assert_eq!(
            sandbox.refused(method, body.clone()).await,
            code,
            "{method} {body}"
        );
    }
    let ghost = format!("Basic {}", STANDARD.encode("ghost:"));
    let body = json!({"path": "d"}).to_string().into_bytes();
    let headers = [("authorization", ghost.as_str())];
    let response = sandbox
        .send(request("Stat", "application/json", &headers, body))
        .await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_watch_starts_tells_and_keeps_alive() {
    let sandbox = Sandbox::new();
    let asked = json!({"path": ".", "recursive": true, "includeEntry": true});
    let mut stream = sandbox
        .watch(asked, &[("keepalive-ping-interval", "1")])
        .await;
    assert_eq!(stream.message().await, json!({"start": {}}));
    assert_eq!(
        stream.message().await,
        json!({"keepalive": {}}),
        "after an idle second"
    );
    fs::create_dir(sandbox.home("d")).unwrap();
    let event = stream.message().await;
    assert_eq!(event["filesystem"]["name"], "d");
    assert_eq!(event["filesystem"]["type"], "EVENT_TYPE_CREATE");
    assert_eq!(event["filesystem"]["entry"]["type"], "FILE_TYPE_DIRECTORY");
    fs::remove_dir(sandbox.home("d")).unwrap();
    let event = stream.message().await;
    assert_eq!(
        event,
        json!({"filesystem": {"name": "d", "type": "EVENT_TYPE_REMOVE"}})
    );
}

#[tokio::test]
async fn a_watch_ends_at_its_deadline_and_when_it_cannot_begin() {
    let sandbox = Sandbox::new();
    let started = Instant::now();
    let mut stream = sandbox
        .watch(json!({"path": "."}), &[("connect-timeout-ms", "300")])
        .await;
    assert_eq!(stream.message().await, json!({"start": {}}));
    let (flags, end) = stream.next().await;
    assert_eq!(
        (flags, &end["error"]["code"]),
        (2, &json!("deadline_exceeded"))
    );
    assert!(started.elapsed() >= Duration::from_millis(300));
    let mut stream = sandbox.watch(json!({"path": "none"}), &[]).await;
    let (flags, end) = stream.next().await;
    assert_eq!((flags, &end["error"]["code"]), (2, &json!("not_found")));
}

#[tokio::test]
async fn polled_watchers_answer_at_once() {
    let sandbox = Sandbox::new();
    let id = sandbox.ok("CreateWatcher", json!({"path": "."})).await["watcherId"].clone();
    fs::write(sandbox.home("f"), "1").unwrap();
    let events = sandbox
        .ok("GetWatcherEvents", json!({"watcherId": id}))
        .await;
    assert_eq!(
        events["events"],
        json!([
            {"name": "f", "type": "EVENT_TYPE_CREATE"},
            {"name": "f", "type": "EVENT_TYPE_WRITE"},
        ])
    );
    assert_eq!(
        sandbox
            .ok("GetWatcherEvents", json!({"watcherId": id}))
            .await,
        json!({})
    );
    assert_eq!(
        sandbox.ok("RemoveWatcher", json!({"watcherId": id})).await,
        json!({})
    );
}
