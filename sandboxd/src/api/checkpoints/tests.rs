//! Checkpoints and rollback over fake machines.

use serde_json::json;

use crate::api::tests::Client;
use crate::machine::fake::Mood;

#[tokio::test]
async fn a_sandbox_goes_back_in_place() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let path = |call: &str| format!("/sandboxes/{id}/{call}");
    let end = client.detail(&id).await["endAt"].clone();
    let taken = client
        .post(&path("checkpoints"), json!({"name": "a.1"}))
        .await;
    assert_eq!(taken.status, 201);
    assert_eq!(taken.json()["name"], "a.1");
    assert!(taken.json()["createdAt"].is_string());
    client
        .post(&path("checkpoints"), json!({"name": "b"}))
        .await;
    let list = client.get(&path("checkpoints")).await.json();
    assert_eq!(list[0]["name"], "a.1");
    assert_eq!(list[1]["name"], "b");
    let back = client
        .post(&path("rollback"), json!({"checkpoint": "a.1"}))
        .await;
    assert_eq!((back.status, back.text.as_str()), (204, ""));
    let detail = client.detail(&id).await;
    assert_eq!(
        (&detail["state"], &detail["endAt"]),
        (&json!("running"), &end)
    );
    let gone = client.call("DELETE", &path("checkpoints/a.1"), None).await;
    assert_eq!(gone.status, 204);
    let again = client.call("DELETE", &path("checkpoints/a.1"), None).await;
    assert_eq!(again.status, 404);
    let back = client
        .post(&path("rollback"), json!({"checkpoint": "a.1"}))
        .await;
    assert_eq!(back.refusal(), "404 The checkpoint `a.1` was not found.");
    *client.house.fake.work.lock().unwrap() = Mood::Fails;
    let failed = client
        .post(&path("rollback"), json!({"checkpoint": "b"}))
        .await;
    assert_eq!(failed.status, 500);
    assert_eq!(client.detail(&id).await["state"], "running");
    client
        .call("DELETE", &format!("/sandboxes/{id}"), None)
        .await;
    client.house.settled(&client.manager).await;
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let path = |call: &str| format!("/sandboxes/{id}/{call}");
    client
        .post(&path("checkpoints"), json!({"name": "a"}))
        .await;
    let mut said = Vec::new();
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "A"}),
        json!({"name": "auto-1"}),
        json!({"name": "x".repeat(65)}),
        json!({"name": "a"}),
        json!({"name": "b", "colour": "red"}),
    ] {
        said.push(client.post(&path("checkpoints"), body).await.refusal());
    }
    said.push(client.post(&path("rollback"), json!({})).await.refusal());
    for auto in [
        json!({}),
        json!({"everyCommands": 0}),
        json!({"everyCommands": 1, "keep": 0}),
        json!({"everyCommands": 1, "keep": 101}),
    ] {
        let body = json!({"templateID": "base", "autoCheckpoint": auto});
        said.push(client.post("/v2/sandboxes", body).await.refusal());
    }
    insta::assert_snapshot!(said.join("\n"));
    client.post(&path("pause"), json!({})).await;
    let paused = client
        .post(&path("checkpoints"), json!({"name": "c"}))
        .await;
    assert_eq!(paused.status, 409);
    let list = client.get(&path("checkpoints")).await.json();
    assert_eq!(list.as_array().unwrap().len(), 1, "a pause keeps them");
    for call in ["checkpoints", "rollback"] {
        let body = json!({"name": "a", "checkpoint": "a"});
        let body = match call {
            "rollback" => json!({"checkpoint": body["checkpoint"]}),
            _ => json!({"name": body["name"]}),
        };
        let unknown = client
            .post(&format!("/sandboxes/iunknown/{call}"), body)
            .await;
        assert_eq!(unknown.status, 404, "{call}");
    }
    assert_eq!(
        client.get("/sandboxes/iunknown/checkpoints").await.status,
        404
    );
}
