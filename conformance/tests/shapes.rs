//! The shapes of answers that the suite takes as right, as a server without fault gives them: members and types, no values.

mod common;

use std::sync::Arc;

use bad_server::BadServer;
use e2b_conformance::context::{Context, Run};
use e2b_conformance::sandbox::Sandbox;
use http::Method;
use serde_json::{Map, Value, json};

/// Port of the interpreter.
const INTERPRETER: u16 = 49_999;

/// A value with the names of types in the place of what is no structure; words that clients compare are kept.
fn shape(value: &Value) -> Value {
    const WORDS: &[&str] = &["type", "state", "onTimeout", "level", "language"];
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => {
            let mut shapes: Vec<Value> = items.iter().map(shape).collect();
            shapes.dedup();
            Value::Array(shapes)
        }
        Value::Object(members) => {
            let shaped: Map<String, Value> = members
                .iter()
                .map(|(name, member)| {
                    let kept = WORDS.contains(&name.as_str()) && member.is_string();
                    let shown = if kept { member.clone() } else { shape(member) };
                    (name.clone(), shown)
                })
                .collect();
            Value::Object(shaped)
        }
    }
}

async fn target() -> (BadServer, Context) {
    let server = BadServer::start(None).await.unwrap();
    let run: Arc<Run> = Run::new(common::target(&server), "shapes");
    (server, Context::new(run))
}

async fn posted(c: &Context, path: &str, body: Value) -> Value {
    c.post(path, &body).await.unwrap().json().unwrap()
}

async fn got(c: &Context, path: &str) -> Value {
    c.get(path).await.unwrap().json().unwrap()
}

#[tokio::test]
async fn a_paused_sandbox() {
    let (_server, c) = target().await;
    let body = json!({ "autoPause": true, "autoResume": { "enabled": true } });
    let id = c.fresh(body).await.unwrap().id;
    let path = format!("/sandboxes/{id}");
    c.post(&format!("{path}/pause"), &json!({})).await.unwrap();
    insta::assert_json_snapshot!(shape(&got(&c, &path).await));
}

#[tokio::test]
async fn snapshots_and_forks() {
    let (_server, c) = target().await;
    let id = c.fresh(json!({})).await.unwrap().id;
    let taken = posted(
        &c,
        &format!("/sandboxes/{id}/snapshots"),
        json!({ "name": "one" }),
    )
    .await;
    let listed = got(&c, "/snapshots").await;
    let forks = posted(&c, &format!("/sandboxes/{id}/fork"), json!({ "count": 2 })).await;
    insta::assert_json_snapshot!(json!({
        "snapshot": shape(&taken), "list": shape(&listed), "fork": shape(&forks),
    }));
}

#[tokio::test]
async fn metrics_and_logs() {
    let (_server, c) = target().await;
    let id = c.fresh(json!({})).await.unwrap().id;
    let samples = got(&c, &format!("/sandboxes/{id}/metrics")).await;
    let first = got(&c, &format!("/sandboxes/{id}/logs")).await;
    let second = got(&c, &format!("/v2/sandboxes/{id}/logs")).await;
    insta::assert_json_snapshot!(json!({
        "metrics": shape(&samples), "logs": shape(&first), "logs v2": shape(&second),
    }));
}

#[tokio::test]
async fn a_watch() {
    let (_server, c) = target().await;
    let sandbox = c.fresh(json!({})).await.unwrap();
    let body = json!({ "path": "/home/user", "includeEntry": true });
    let request = sandbox.streaming(&c, "filesystem.Filesystem/WatchDir", &body);
    let mut stream = c.stream(request).await.unwrap();
    let mut messages = vec![stream.message(c.usual()).await.unwrap().unwrap()];
    sandbox.put(&c, "/home/user/new", b"text").await.unwrap();
    for _ in 0..3 {
        messages.push(stream.message(c.usual()).await.unwrap().unwrap());
    }
    insta::assert_json_snapshot!(shape(&Value::Array(messages)));
}

async fn executed(c: &Context, sandbox: &Sandbox, code: &str) -> Value {
    let request = sandbox
        .port(c, Method::POST, INTERPRETER, "/execute")
        .json(&json!({ "code": code }));
    let text = c.send(request).await.unwrap().text();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .collect()
}

#[tokio::test]
async fn cells() {
    let (_server, c) = target().await;
    let sandbox = c.interpreter().await.unwrap();
    let code =
        "import sys\nprint(\"out\")\nprint(\"err\", file=sys.stderr)\ndisplay(1)\n{\"a\": [1]}";
    let cell = executed(&c, &sandbox, code).await;
    let error = executed(&c, &sandbox, "raise ValueError(\"boom\")").await;
    let figure = executed(&c, &sandbox, "plt.plot([1, 2, 3], [1, 4, 9])\nplt.show()").await;
    let contexts = c
        .send(sandbox.port(&c, Method::GET, INTERPRETER, "/contexts"))
        .await
        .unwrap();
    insta::assert_json_snapshot!(json!({
        "cell": shape(&cell), "error": shape(&error), "figure": shape(&figure),
        "contexts": shape(&contexts.json().unwrap()),
    }));
}
