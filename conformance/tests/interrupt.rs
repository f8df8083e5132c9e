//! Ctrl-C in the middle of a run: what was done is written, and no sandbox is left.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bad_server::{BadServer, KEY};
use e2b_conformance::context::{Context, Run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Sandboxes of the server.
async fn living(c: &Context) -> Vec<String> {
    let items = c.get("/v2/sandboxes").await.unwrap().array().unwrap();
    items
        .iter()
        .filter_map(|item| item["sandboxID"].as_str())
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_interrupt_no_sandbox_is_left_and_what_was_done_is_written() {
    is_clean_after(Signal::SIGINT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_request_to_end_no_sandbox_is_left_and_what_was_done_is_written() {
    is_clean_after(Signal::SIGTERM).await;
}

async fn is_clean_after(signal: Signal) {
    let server = BadServer::start(None).await.unwrap();
    let url = server.url();
    let c = Context::new(Run::new(common::target(&server), "watching"));
    let folder = tempfile::tempdir().unwrap();
    // The checks of kills end at once, the other one reads an idle stream for four seconds.
    let mut program = Command::new(env!("CARGO_BIN_EXE_e2b-conformance"))
        .args(["run", "--url", &url, "--sandbox-url", &url])
        .args(["--check", "lifecycle/kill", "--check", "process/keepalive"])
        .args(["--parallel", "1", "--out"])
        .arg(folder.path())
        .env("E2B_API_KEY", KEY)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let since = Instant::now();
    let mut before = Vec::new();
    // A sandbox that lives for longer than an instant is the last check's.
    loop {
        assert!(since.elapsed() < Duration::from_secs(60), "it never began");
        let now = living(&c).await;
        if now.iter().any(|id| before.contains(id)) {
            break;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let pid = Pid::from_raw(i32::try_from(program.id()).unwrap());
    kill(pid, signal).unwrap();
    let waiting = Instant::now();
    let status = tokio::task::spawn_blocking(move || program.wait().unwrap())
        .await
        .unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(waiting.elapsed() < Duration::from_secs(30));
    assert_eq!(living(&c).await, Vec::<String>::new());
    let json = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["interrupted"], true);
    assert_eq!(report["body"]["left_behind"], serde_json::json!([]));
    let results = report["body"]["results"].as_array().unwrap();
    let ended: Vec<&str> = results
        .iter()
        .filter_map(|one| one["check"].as_str())
        .collect();
    assert!(ended.contains(&"lifecycle/kill"), "{ended:?}");
    assert!(!ended.contains(&"process/keepalive"), "{ended:?}");
    assert!(results.iter().all(|one| one["status"] == "pass"));
}
