//! The shipped program against the bad server: reports, exit codes, clean-up, and the schema of the JSON report.

mod common;

use std::path::Path;

use bad_server::{BadServer, KEY};
use serde_json::Value;

use self::common::{program, run, said};

/// The schema that all tools share.
fn schema() -> jsonschema::Validator {
    jsonschema::validator_for(&reports::model::schema::report().to_value()).unwrap()
}

fn violations(report: &Value) -> Vec<String> {
    schema()
        .iter_errors(report)
        .map(|error| error.to_string())
        .collect()
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
    assert_eq!(violations(&report), Vec::<String>::new());
    let failed: Vec<&Value> = report["body"]["results"]
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
    let badge = std::fs::read_to_string(folder.path().join("badge.svg")).unwrap();
    assert!(
        badge.contains("E2B conformance") && !badge.contains(KEY),
        "{badge}"
    );
    for name in ["report.json", "junit.xml", "report.md", "report.html"] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(!text.contains(KEY), "the key is in {name}");
        assert!(text.contains("process/exit-code"), "{name}");
    }
    let broken = json.replacen("\"status\": \"fail\"", "\"status\": \"odd\"", 1);
    let broken: Value = serde_json::from_str(&broken).unwrap();
    assert!(!violations(&broken).is_empty(), "the schema takes anything");
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
