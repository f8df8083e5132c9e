//! What is inside a stub's sandboxes: health, files, a few commands, and code that can add one and one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answer::{Answer, bytes, error, json_of, nothing};
use super::world::Machine;
use crate::wire::envelope::LAST;

/// Most output of a command.
const MAX_OUTPUT: usize = 64 << 20;
/// Output in one event.
const CHUNK: usize = 32 << 10;

/// A request to a port of a sandbox.
pub fn call(
    machine: &mut Machine,
    method: &Method,
    path: &str,
    query: &str,
    body: Bytes,
) -> Answer {
    match (method.as_str(), path) {
        ("GET", "/health") => nothing(),
        ("POST", "/process.Process/Start") => start(&body),
        ("POST", "/execute") => execute(&body),
        ("GET", "/files") => match machine.files.get(file(query)) {
            Some(content) => bytes(StatusCode::OK, "application/octet-stream", content.clone()),
            None => error(StatusCode::NOT_FOUND, "no such file"),
        },
        ("POST", "/files") => {
            let path = file(query).to_owned();
            let told = json!([{"path": path, "name": path, "type": "file"}]);
            machine.files.insert(path, body);
            json_of(StatusCode::OK, &told)
        }
        _ => error(StatusCode::NOT_FOUND, "no such call"),
    }
}

/// The path, percent-encoded as it came: a name like any other.
fn file(query: &str) -> &str {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("path="))
        .unwrap_or("")
}

fn start(body: &[u8]) -> Answer {
    let request: Value = body
        .get(5..)
        .and_then(|json| serde_json::from_slice(json).ok())
        .unwrap_or_default();
    let cmd = request["process"]["cmd"].as_str().unwrap_or("");
    let args: Vec<&str> = request["process"]["args"]
        .as_array()
        .map(|args| args.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let (output, exit) = match (cmd, &args[..]) {
        ("/bin/true", []) | ("/bin/sh", ["-c", "true"]) => (Vec::new(), 0),
        ("/bin/echo", words) => (format!("{}\n", words.join(" ")).into_bytes(), 0),
        ("/usr/bin/head", ["-c", length, "/dev/zero"]) => {
            let length = length.parse().unwrap_or(0).min(MAX_OUTPUT);
            (vec![0; length], 0)
        }
        _ => (Vec::new(), 127),
    };
    let mut stream = BytesMut::new();
    let mut put = |flags: u8, value: &Value| {
        let text = value.to_string();
        stream.put_u8(flags);
        stream.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        stream.put_slice(text.as_bytes());
    };
    put(0, &json!({"event": {"start": {"pid": 7}}}));
    for chunk in output.chunks(CHUNK) {
        put(
            0,
            &json!({"event": {"data": {"stdout": STANDARD.encode(chunk)}}}),
        );
    }
    put(
        0,
        &json!({"event": {"end": {"exited": true, "exitCode": exit, "status": format!("exit status {exit}")}}}),
    );
    put(LAST, &json!({}));
    bytes(StatusCode::OK, "application/connect+json", stream.freeze())
}

fn execute(body: &[u8]) -> Answer {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut lines = String::from("{\"type\":\"number_of_executions\",\"execution_count\":1}\n");
    if request["code"] == "1+1" {
        lines.push_str("{\"type\":\"result\",\"text\":\"2\",\"is_main_result\":true}\n");
    } else {
        lines.push_str("{\"type\":\"error\",\"name\":\"NotImplementedError\",\"value\":\"\",\"traceback\":\"\"}\n");
    }
    lines.push_str("{\"type\":\"end_of_execution\"}\n");
    bytes(StatusCode::OK, "application/json", Bytes::from(lines))
}
