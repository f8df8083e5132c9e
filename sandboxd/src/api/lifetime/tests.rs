//! Deadlines over fake machines.

use serde_json::json;

use crate::api::tests::Client;
use crate::ids::SandboxId;

async fn end_at(client: &Client, id: &SandboxId) -> String {
    let detail = client.detail(id).await;
    detail["endAt"].as_str().unwrap().to_owned()
}

async fn seconds_left(client: &Client, id: &SandboxId) -> i64 {
    let end: jiff::Timestamp = end_at(client, id).await.parse().unwrap();
    (end.as_millisecond() - jiff::Timestamp::now().as_millisecond() + 500) / 1_000
}

#[tokio::test]
async fn timeout_moves_the_deadline_either_way() {
    let client = Client::new().await;
    let id = client.create(json!({"timeout": 100})).await;
    let path = format!("/sandboxes/{id}/timeout");
    for seconds in [1_000, 10] {
        let answer = client.post(&path, json!({"timeout": seconds})).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
        assert_eq!(seconds_left(&client, &id).await, seconds);
    }
    client.post(&path, json!({"timeout": 1_000_000})).await;
    assert_eq!(seconds_left(&client, &id).await, 3_600);
    assert_eq!(client.post(&path, json!({"timeout": 0})).await.status, 204);
    assert_eq!(client.post(&path, json!({"timeout": 10})).await.status, 404);
    client.house.settled(&client.manager).await;
}

#[tokio::test]
async fn connect_never_shortens_and_leaves_an_unchanged_deadline_alone() {
    let client = Client::new().await;
    let id = client.create(json!({"timeout": 600})).await;
    let before = end_at(&client, &id).await;
    for version in ["/v2", ""] {
        let path = format!("{version}/sandboxes/{id}/connect");
        let answer = client.post(&path, json!({"timeout": 5})).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["sandboxID"], id.as_str());
        assert!(answer.json()["envdAccessToken"].is_string());
        assert_eq!(end_at(&client, &id).await, before);
    }
    let path = format!("/v2/sandboxes/{id}/connect");
    assert_eq!(client.post(&path, json!({})).await.status, 200);
    let absent = client.call("POST", &path, None).await;
    assert_eq!(absent.status, 200);
    assert_eq!(end_at(&client, &id).await, before);
    client
        .post(&path, json!({"timeout": 1_200, "memory": false}))
        .await;
    assert_eq!(seconds_left(&client, &id).await, 1_200);
}

#[tokio::test]
async fn refreshes_only_extend_and_give_a_quarter_of_a_minute_at_least() {
    let client = Client::new().await;
    let id = client.create(json!({"timeout": 5})).await;
    let path = format!("/sandboxes/{id}/refreshes");
    assert_eq!(client.post(&path, json!({"duration": 0})).await.status, 204);
    assert_eq!(seconds_left(&client, &id).await, 15);
    client.post(&path, json!({"duration": 100})).await;
    let before = end_at(&client, &id).await;
    assert_eq!(client.call("POST", &path, None).await.status, 204);
    assert_eq!(end_at(&client, &id).await, before);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_what_is_gone_is_not_found() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let mut said = Vec::new();
    for (path, body) in [
        ("timeout", json!({"timeout": -1})),
        ("timeout", json!({"timeout": 1.5})),
        ("timeout", json!({})),
        ("refreshes", json!({"duration": 3_601})),
        ("connect", json!({})),
        ("connect", json!({"timeout": 5, "memory": true})),
        ("connect", json!({"timeout": -5})),
    ] {
        let answer = client.post(&format!("/sandboxes/{id}/{path}"), body).await;
        said.push(answer.refusal());
    }
    insta::assert_snapshot!(said.join("\n"));
    client
        .call("DELETE", &format!("/sandboxes/{id}"), None)
        .await;
    for (path, body) in [
        (format!("/sandboxes/{id}/timeout"), json!({"timeout": 5})),
        (format!("/sandboxes/{id}/refreshes"), json!({})),
        (format!("/sandboxes/{id}/connect"), json!({"timeout": 5})),
        (format!("/v2/sandboxes/{id}/connect"), json!({})),
    ] {
        assert_eq!(client.post(&path, body).await.status, 404, "{path}");
    }
}
