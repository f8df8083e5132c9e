//! The shipped program against the bad server: reports, exit codes, clean-up, and the schema of the JSON report.

use std::path::Path;
use std::process::{Command, Output};

use bad_server::{BadServer, KEY};
use serde_json::Value;

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_e2b-conformance"))
        .args(arguments)
        .env("E2B_API_KEY", KEY)
        .output()
        .unwrap()
}

fn run(server: &BadServer, more: &[&str]) -> Output {
    let url = server.url();
    program(&[&["run", "--url", &url, "--sandbox-url", &url], more].concat())
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

/// What of a value is not as the schema says. Knows the words that the committed schema uses, and refuses others.
fn violations(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (word, rule) in schema.as_object().unwrap() {
        match word.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                wrong.extend(violations(root, &root["$defs"][name], value, at));
            }
            "const" => wrong.extend((value != rule).then(|| format!("{at}: not {rule}"))),
            "enum" => {
                let known = rule.as_array().unwrap().contains(value);
                wrong.extend((!known).then(|| format!("{at}: {value} is not one of {rule}")));
            }
            "type" => {
                let types = rule
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![rule.clone()]);
                let fits = types.iter().any(|kind| match kind.as_str().unwrap() {
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("unknown type {other}"),
                });
                wrong.extend((!fits).then(|| format!("{at}: {value} is no {rule}")));
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    wrong.extend(violations(root, rule, item, &format!("{at}[{index}]")));
                }
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    let there = value.get(name.as_str().unwrap()).is_some();
                    wrong.extend((!there).then(|| format!("{at}: no {name}")));
                }
            }
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    match rule.get(name) {
                        Some(schema) => {
                            wrong.extend(violations(root, schema, member, &format!("{at}.{name}")));
                        }
                        None => wrong.push(format!("{at}: unknown member {name}")),
                    }
                }
            }
            // Always false here, and judged with the properties.
            "additionalProperties" => {}
            other => panic!("the schema uses `{other}`, which this test does not know"),
        }
    }
    wrong
}

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/report.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_writes_reports_that_keep_to_the_schema_and_hold_no_secret() {
    let server = BadServer::start(Some("exit-code-lost")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let output = run(&server, &["--check", "process", "--quick", "--out", out]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let json = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&json).unwrap();
    let schema = schema();
    assert_eq!(
        violations(&schema, &schema, &report, "report"),
        Vec::<String>::new()
    );
    let failed: Vec<&Value> = report["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["status"] == "fail")
        .collect();
    assert!(
        failed.iter().any(|one| one["check"] == "process/exit-code"),
        "{failed:?}"
    );
    assert!(
        failed
            .iter()
            .all(|one| !one["exchanges"].as_array().unwrap().is_empty())
    );
    for name in ["report.json", "junit.xml", "report.md"] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(!text.contains(KEY), "the key is in {name}");
        assert!(text.contains("process/exit-code"), "{name}");
    }
    let broken = json.replacen("\"status\": \"fail\"", "\"status\": \"odd\"", 1);
    let broken: Value = serde_json::from_str(&broken).unwrap();
    assert!(
        !violations(&schema, &schema, &broken, "report").is_empty(),
        "the schema takes anything"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn expected_failures_are_green_and_stale_ones_red() {
    let server = BadServer::start(Some("kill-200")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("expected.toml");
    let list = list.to_str().unwrap();
    let check = [
        "--check",
        "lifecycle/kill",
        "--check",
        "lifecycle/kill-twice",
        "--expected",
        list,
    ];
    std::fs::write(list, "\"lifecycle/kill\" = \"known, issue 7\"\n").unwrap();
    let output = run(&server, &check);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    std::fs::write(
        list,
        "\"lifecycle/kill\" = \"known\"\n\"lifecycle/kill-twice\" = \"old\"\n",
    )
    .unwrap();
    let output = run(&server, &check);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("STALE"), "{}", said(&output));
    std::fs::write(list, "\"lifecycle/no-such\" = \"why\"\n").unwrap();
    assert_eq!(run(&server, &check).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_unsupported_is_not_tried_and_not_red() {
    let server = BadServer::start(Some("pty-as-stdout")).await.unwrap();
    let output = run(&server, &["--profile", "pty", "--unsupported", "pty"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let all = e2b_conformance::checks::all();
    let own = all.iter().filter(|check| check.area() == "pty").count();
    let wanted = format!("0 passed, 0 failed, {own} unsupported");
    assert!(said(&output).contains(&wanted), "{}", said(&output));
    assert_eq!(
        run(&server, &["--unsupported", "no-such-area"])
            .status
            .code(),
        Some(2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_or_wrong_target_is_one_clear_error() {
    let dead = program(&[
        "run",
        "--url",
        "http://127.0.0.1:1",
        "--sandbox-url",
        "http://127.0.0.1:1",
    ]);
    assert_eq!(dead.status.code(), Some(3));
    assert!(said(&dead).contains("nothing answers"), "{}", said(&dead));
    let server = BadServer::start(None).await.unwrap();
    let key = run(&server, &["--api-key", "wrong"]);
    assert_eq!(key.status.code(), Some(3));
    assert!(said(&key).contains("refuses the API key"), "{}", said(&key));
    let template = run(&server, &["--template", "no-such"]);
    assert_eq!(template.status.code(), Some(3));
    assert!(
        said(&template).contains("no sandbox can be created"),
        "{}",
        said(&template)
    );
    assert_eq!(run(&server, &["--check", "no/such"]).status.code(), Some(2));
}

#[test]
fn the_committed_trace_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("requirements/TRACE.md");
    let printed = said(&program(&["trace"]));
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        printed == committed,
        "run: cargo run -p e2b-conformance -- trace > conformance/requirements/TRACE.md"
    );
}
