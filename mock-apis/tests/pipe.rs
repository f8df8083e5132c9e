//! The program beside a reader that has seen enough: no panic, no complaint, the exit code as it would have been.

mod common;

use std::process::{Command, Output, Stdio};

use common::{get, scenarios, serve};
use mock_apis::server::Identity;

/// Runs the program with its standard output closed before it begins.
fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Command::new(env!("CARGO_BIN_EXE_mock-apis"))
        .args(arguments)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
}

fn quiet(output: &Output, code: i32) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.as_ref()), (Some(code), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_ends_no_command_with_a_complaint() {
    let text = std::fs::read_to_string(scenarios().join("echo.yaml")).unwrap();
    let server = serve(&text, Identity::default()).await;
    get(server.front, "/anything/x", "").await;
    let admin = server.admin.to_string();
    quiet(&unread(&["journal", "--admin", &admin]), 0);
    quiet(&unread(&["journal", "--har", "--admin", &admin]), 0);
    let echo = scenarios().join("echo.yaml").display().to_string();
    quiet(&unread(&["validate", &echo, &echo]), 0);
}

#[test]
fn a_contract_that_nobody_reads_is_judged_and_written_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("s.yaml");
    let text = "
version: 1
name: s
services:
  - name: api
    routes: [{operation: get, method: GET, path: /x, reply: {status: 200}}]
expectations:
  - bounds_retries: {max_attempts: 1}
";
    std::fs::write(&scenario, text).unwrap();
    let json = folder.path().join("run.json");
    let output = unread(&[
        "contract",
        "--local",
        "--agent",
        "true",
        "--scenario",
        &scenario.display().to_string(),
        "--json",
        &json.display().to_string(),
    ]);
    quiet(&output, 0);
    assert!(json.is_file());
}
