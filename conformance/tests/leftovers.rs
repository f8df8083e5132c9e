//! What a run made besides sandboxes is gone at its end.

use std::process::Command;

use bad_server::{BadServer, KEY};
use e2b_conformance::context::{Context, Run};
use e2b_conformance::target::TargetFile;
use serde_json::Value;

async fn all(c: &Context, path: &str) -> Vec<Value> {
    c.get(path).await.unwrap().array().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_volumes_and_secrets_are_deleted() {
    let server = BadServer::start(None).await.unwrap();
    let url = server.url();
    let file = TargetFile {
        url: Some(url.clone()),
        api_key: Some(KEY.to_owned()),
        sandbox_url: Some(url.clone()),
        ..TargetFile::default()
    };
    let c = Context::new(Run::new(file.target().unwrap(), "watching"));
    let before = all(&c, "/templates").await.len();
    // One template is shared by checks, one is in use by a sandbox when it is to be deleted.
    let output = Command::new(env!("CARGO_BIN_EXE_e2b-conformance"))
        .args(["run", "--url", &url, "--sandbox-url", &url])
        .args(["--check", "templates/step-env"])
        .args(["--check", "templates/delete-used"])
        .args(["--check", "volumes/shared"])
        .args(["--check", "volumes/secret-list"])
        .env("E2B_API_KEY", KEY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("4 checks: 4 passed"), "{said}");
    assert_eq!(all(&c, "/templates").await.len(), before);
    for path in ["/v2/sandboxes", "/volumes", "/secrets"] {
        assert_eq!(all(&c, path).await, Vec::<Value>::new(), "{path}");
    }
}
