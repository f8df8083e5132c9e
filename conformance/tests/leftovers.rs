//! What a run made besides sandboxes is gone at its end.

mod common;

use bad_server::BadServer;
use e2b_conformance::context::{Context, Run};
use serde_json::Value;

async fn all(c: &Context, path: &str) -> Vec<Value> {
    c.get(path).await.unwrap().array().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_volumes_and_secrets_are_deleted() {
    let server = BadServer::start(None).await.unwrap();
    let c = Context::new(Run::new(common::target(&server), "watching"));
    let before = all(&c, "/templates").await.len();
    // One template is shared by checks, one is in use by a sandbox when it is to be deleted.
    let checks = [
        "templates/step-env",
        "templates/delete-used",
        "volumes/shared",
        "volumes/secret-list",
    ];
    let more: Vec<&str> = checks.iter().flat_map(|one| ["--check", one]).collect();
    let output = common::run(&server, &more);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("4 checks: 4 passed"), "{said}");
    assert_eq!(all(&c, "/templates").await.len(), before);
    for path in ["/v2/sandboxes", "/volumes", "/secrets"] {
        assert_eq!(all(&c, path).await, Vec::<Value>::new(), "{path}");
    }
}
