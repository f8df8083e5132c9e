//! The MCP face of the shipped program, as the official Python client sees it.

#[path = "common/venv.rs"]
mod venv;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use mock_apis::fault::Fault;
use serde_json::{Value, json};

/// What came of a call: `{"result": …}` or `{"error": TYPE, "message": …}`.
type Check = fn(&Value) -> bool;

fn text(seen: &Value) -> &str {
    seen["result"]["content"][0]["text"].as_str().unwrap_or("")
}

fn structure(seen: &Value) -> &Value {
    &seen["result"]["structuredContent"]
}

/// The tool failed, and its text begins with this status.
fn status(seen: &Value, status: &str) -> bool {
    seen["result"]["isError"] == true && text(seen).starts_with(status)
}

/// The reply without a fault is `{"id": "LH-100", "price": 180}`.
fn whole(seen: &Value) -> bool {
    seen["result"]["isError"] == false && *structure(seen) == json!({"id": "LH-100", "price": 180})
}

/// The client has no result, and its error says why with this word.
fn none(seen: &Value, word: &str) -> bool {
    let said = |it: &str| seen[it].as_str().is_some_and(|said| said.contains(word));
    seen.get("result").is_none() && (said("error") || said("message"))
}

/// Each fault, its parameters, and what the client makes of it.
const TABLE: &[(&str, &str, Check)] = &[
    ("succeed", "{}", whole),
    ("bad_request", "{errors: {/a: missing}}", |seen| {
        status(seen, "400 Bad Request") && text(seen).contains("missing")
    }),
    ("unauthorized", "{}", |seen| {
        status(seen, "401") && text(seen).contains("\nwww-authenticate: Bearer")
    }),
    ("forbidden", "{}", |seen| status(seen, "403")),
    ("not_found", "{}", |seen| status(seen, "404")),
    ("conflict", "{}", |seen| status(seen, "409")),
    ("unprocessable", "{}", |seen| status(seen, "422")),
    ("rate_limited", "{retry_after_s: 7}", |seen| {
        status(seen, "429 Too Many Requests") && text(seen).contains("\nretry-after: 7\n")
    }),
    ("server_error", "{}", |seen| status(seen, "500")),
    ("bad_gateway", "{}", |seen| status(seen, "502")),
    ("unavailable", "{}", |seen| status(seen, "503")),
    ("malformed_json", "{}", |seen| {
        let broken = serde_json::from_str::<Value>(text(seen)).is_err();
        broken && text(seen).starts_with('{') && structure(seen).is_null()
    }),
    ("truncated_body", "{}", |seen| {
        none(seen, "peer closed connection")
    }),
    ("wrong_content_type", "{}", |seen| none(seen, "text/html")),
    ("wrong_length", "{}", |seen| none(seen, "Invalid JSON")),
    ("breaks_schema", "{}", |seen| {
        structure(seen).is_object() && !whole(seen)
    }),
    ("plausible_but_wrong", "{set: {/price: 7}}", |seen| {
        *structure(seen) == json!({"id": "LH-100", "price": 7})
    }),
    ("empty_reply", "{}", |seen| {
        none(seen, "Server disconnected")
    }),
    ("reset_before_headers", "{}", |seen| none(seen, "ReadError")),
    ("reset_after_headers", "{}", |seen| none(seen, "ReadError")),
    ("slow_headers", "{gap_ms: 1}", whole),
    ("dribbled_body", "{gap_ms: 1}", whole),
    ("hang", "{for_ms: 60000}", |seen| none(seen, "imed out")),
    ("redirect_loop", "{}", |seen| none(seen, "edirect")),
    ("oversized_body", "{mib: 1}", whole),
    ("cut_event_stream", "{events: 0}", |seen| {
        none(seen, "stream ended")
    }),
    ("did_the_work", "{}", |seen| status(seen, "503")),
    ("rpc_malformed", "{}", |seen| none(seen, "jsonrpc")),
    ("rpc_truncated", "{}", |seen| none(seen, "Invalid JSON")),
    ("rpc_wrong_result", "{}", |seen| {
        let wrong = structure(seen);
        let kind = wrong["id"].is_string() && wrong["price"].is_u64();
        kind && wrong["id"] != "LH-100" && wrong["price"] != 180
    }),
];

/// `mock-apis serve` at free ports.
struct Mock {
    child: Child,
    admin: String,
    mcp: String,
    _folder: tempfile::TempDir,
}

impl Mock {
    fn start(scenario: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scenario.yaml");
        std::fs::write(&path, scenario).unwrap();
        let any = "127.0.0.1:0";
        let mut child = Command::new(env!("CARGO_BIN_EXE_mock-apis"))
            .arg("serve")
            .arg(&path)
            .args(["--listen", any, "--admin", any, "--mcp", any])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let said: Vec<String> = said.take(2).map(Result::unwrap).collect();
        let (_, admin) = said[0].split_once("admin http://").unwrap();
        let mcp = said[1].strip_prefix("mcp ").unwrap();
        Self {
            admin: admin.to_owned(),
            mcp: mcp.to_owned(),
            child,
            _folder: folder,
        }
    }

    fn journal(&self) -> Vec<Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_mock-apis"))
            .args(["journal", "--admin", &self.admin])
            .output()
            .unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let read = |line| serde_json::from_str(line).unwrap();
        lines.lines().map(read).collect()
    }

    /// The tools, and what came of each call.
    fn call(&self, python: &Path, mode: &str, calls: &[(String, Value)]) -> (Value, Vec<Value>) {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp_client/client.py");
        let mut child = Command::new(python)
            .args([program, &self.mcp, mode])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input
            .write_all(json!(calls).to_string().as_bytes())
            .unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "the client: {}", output.status);
        let lines = String::from_utf8(output.stdout).unwrap();
        let mut lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (lines.next().unwrap(), lines.collect())
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One route for each row: its only rule is the fault.
fn scenario() -> String {
    let routes = TABLE.iter().map(|(name, parameters, _)| {
        format!(
            "      - operation: {name}
        method: POST
        path: /{name}/{{id}}
        reply: {{status: 200, body: {{id: LH-100, price: 180}}}}
        rules: [{{fault: {{{name}: {parameters}}}}}]\n"
        )
    });
    let routes: String = routes.collect();
    format!("version: 1\nname: t\nservices:\n  - name: api\n    routes:\n{routes}")
}

#[test]
fn the_table_has_every_fault() {
    let tested: BTreeSet<_> = TABLE.iter().map(|(name, ..)| *name).collect();
    let all: BTreeSet<_> = Fault::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(tested, all);
}

#[test]
fn the_official_client_meets_each_fault_and_the_journal_has_the_calls() {
    let Some(python) = venv::python("mcp_client") else {
        return;
    };
    // The protocol of today, without a handshake, and the one before, with it.
    for mode in ["auto", "legacy"] {
        let mock = Mock::start(&scenario());
        let mut calls: Vec<_> = TABLE
            .iter()
            .map(|(name, ..)| {
                (
                    format!("api_{name}"),
                    json!({"id": "a b", "body": {"n": 1}}),
                )
            })
            .collect();
        calls.push(("api_sucseed".into(), json!({})));
        let (tools, seen) = mock.call(&python, mode, &calls);
        assert_eq!(
            tools["result"]["tools"].as_array().unwrap().len(),
            TABLE.len()
        );
        assert_eq!(seen.len(), calls.len());
        for ((name, parameters, check), seen) in TABLE.iter().zip(&seen) {
            assert!(check(seen), "{mode}: {name} {parameters}: {seen}");
        }
        assert!(none(&seen[TABLE.len()], "no such tool"), "{seen:?}");

        let journal = mock.journal();
        let faults: BTreeSet<_> = journal
            .iter()
            .filter_map(|it| it["fault"].as_str())
            .collect();
        assert_eq!(faults.len(), TABLE.len());
        // The client goes round a loop some times.
        let mut once = journal.clone();
        once.dedup_by_key(|entry| entry["fault"].clone());
        for (entry, (name, ..)) in once.iter().zip(TABLE) {
            assert_eq!(
                (&entry["face"], &entry["fault"]),
                (&json!("mcp"), &json!(name))
            );
            assert_eq!(entry["request"]["path"], format!("/{name}/a%20b"));
            assert_eq!(entry["request"]["body"], "{\"n\":1}");
        }
        let miss = journal.last().unwrap();
        assert_eq!(miss["request"]["path"], "/api_sucseed");
        assert_eq!(
            miss["near_misses"][0],
            "api_succeed is a tool: 1 letters differ"
        );
    }
}
