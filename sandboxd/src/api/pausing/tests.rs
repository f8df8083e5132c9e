//! Pause and resume over fake machines.

use serde_json::json;

use crate::api::tests::Client;
use crate::machine::fake::Mood;

#[tokio::test]
async fn pause_connect_and_resume_answer_as_the_sdks_expect() {
    let client = Client::new().await;
    let id = client.create(json!({"timeout": 600})).await;
    let path = |call: &str| format!("/sandboxes/{id}/{call}");
    let token = client.detail(&id).await["envdAccessToken"].clone();

    let paused = client.post(&path("pause"), json!({})).await;
    assert_eq!((paused.status, paused.text.as_str()), (204, ""));
    let timing = paused.header("server-timing").unwrap();
    assert!(
        timing.starts_with("memory;dur=1.000, other;dur="),
        "{timing}"
    );
    let detail = client.detail(&id).await;
    assert_eq!(detail["state"], "paused");
    assert_eq!(detail["pauseMode"], "full");
    insta::assert_snapshot!(
        client.post(&path("pause"), json!({})).await.refusal().replace(id.as_str(), "<id>"),
        @"409 The sandbox `<id>` is paused."
    );
    assert_eq!(
        client
            .post(&path("timeout"), json!({"timeout": 5}))
            .await
            .status,
        404
    );

    let connect = format!("/v2{}", path("connect"));
    let resumed = client.post(&connect, json!({})).await;
    assert_eq!(resumed.status, 201);
    assert_eq!(resumed.json()["sandboxID"], id.as_str());
    assert_eq!(resumed.json()["envdAccessToken"], token);
    assert!(resumed.header("server-timing").is_some());
    assert_eq!(client.post(&connect, json!({})).await.status, 200);
    let detail = client.detail(&id).await;
    assert_eq!(detail["state"], "running");
    assert_eq!(detail.get("pauseMode"), None);

    let resume = client.post(&path("resume"), json!({})).await;
    insta::assert_snapshot!(
        resume.refusal().replace(id.as_str(), "<id>"),
        @"409 The sandbox `<id>` is running already."
    );
    let body = json!({"memory": false, "requireHealthyGuest": true});
    assert_eq!(client.post(&path("pause"), body).await.status, 204);
    assert_eq!(client.detail(&id).await["pauseMode"], "filesystem");
    assert_eq!(client.call("POST", &path("resume"), None).await.status, 201);
    client.post(&path("pause"), json!({})).await;
    let connected = client.post(&path("connect"), json!({"timeout": 5})).await;
    assert_eq!(connected.status, 201);
    client.post(&path("pause"), json!({})).await;
    let killed = client
        .call("DELETE", &format!("/sandboxes/{id}"), None)
        .await;
    assert_eq!(killed.status, 204);
    for call in ["pause", "resume"] {
        assert_eq!(
            client.post(&path(call), json!({})).await.status,
            404,
            "{call}"
        );
    }
    client.house.settled(&client.manager).await;
}

#[tokio::test]
async fn a_paused_sandbox_is_listed_as_such_and_its_end_is_when_it_was_paused() {
    let client = Client::new().await;
    let id = client.create(json!({"timeout": 600})).await;
    let running = client.create(json!({})).await;
    let before = jiff::Timestamp::now();
    client
        .post(&format!("/sandboxes/{id}/pause"), json!({}))
        .await;
    let ids = async |query: &str| {
        let answer = client.get(&format!("/v2/sandboxes?{query}")).await;
        assert!(answer.header("x-total-running").is_some());
        let list = answer.json();
        let ids = list.as_array().unwrap().iter();
        ids.map(|s| s["sandboxID"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("state=paused").await, [id.to_string()]);
    assert_eq!(ids("state=running").await, [running.to_string()]);
    assert_eq!(ids("").await, [running.to_string(), id.to_string()]);
    let old = client.get("/sandboxes").await.json();
    assert_eq!(
        old.as_array().unwrap().len(),
        1,
        "the first version lists what runs"
    );
    let end = client.detail(&id).await["endAt"].clone();
    let end: jiff::Timestamp = end.as_str().unwrap().parse().unwrap();
    assert!((end.as_millisecond() - before.as_millisecond()).abs() < 5_000);
}

#[tokio::test]
async fn a_guest_that_does_not_hold_still_is_said_so_and_lives() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let path = format!("/sandboxes/{id}/pause");
    let machine = client.house.fake.machine(&id).unwrap();
    machine
        .unresponsive
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let answer = client.post(&path, json!({})).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json()["error_code"],
        "sandbox_snapshot_guest_agent_unresponsive"
    );
    assert_eq!(answer.header("should-retry"), Some("false"));
    assert_eq!(client.detail(&id).await["state"], "running");
}

#[tokio::test]
async fn a_resume_without_room_or_luck_is_refused_and_may_be_repeated() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    client
        .post(&format!("/sandboxes/{id}/pause"), json!({}))
        .await;
    let connect = format!("/v2/sandboxes/{id}/connect");
    *client.house.fake.mood.lock().unwrap() = Mood::Fails;
    assert_eq!(client.post(&connect, json!({})).await.status, 500);
    *client.house.fake.mood.lock().unwrap() = Mood::Works;
    for _ in 0..8 {
        client.create(json!({})).await;
    }
    let full = client.post(&connect, json!({})).await;
    assert_eq!(full.status, 429);
    assert_eq!(full.json()["error_code"], "sandbox_capacity_unavailable");
    assert_eq!(client.detail(&id).await["state"], "paused");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let mut said = Vec::new();
    for (call, body) in [
        ("pause", json!({"colour": "red"})),
        ("pause", json!({"memory": 1})),
        ("resume", json!({"timeout": 0})),
        ("resume", json!({"timeout": 99_999})),
        ("resume", json!({"autoPause": true})),
        ("resume", json!({"colour": "red"})),
    ] {
        let answer = client.post(&format!("/sandboxes/{id}/{call}"), body).await;
        said.push(answer.refusal());
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[tokio::test]
async fn the_rules_of_an_end_come_back() {
    let client = Client::new().await;
    for (create, lifecycle) in [
        (json!({}), json!({"onTimeout": "kill", "autoResume": false})),
        (
            json!({"autoPause": true}),
            json!({"onTimeout": "pause", "autoResume": false}),
        ),
        (
            json!({"autoPause": true, "autoResume": {"enabled": true}}),
            json!({"onTimeout": "pause", "autoResume": true}),
        ),
        (
            json!({"autoPause": true, "autoPauseMemory": false}),
            json!({"onTimeout": "pause", "autoResume": false}),
        ),
    ] {
        let id = client.create(create).await;
        assert_eq!(client.detail(&id).await["lifecycle"], lifecycle);
    }
}
