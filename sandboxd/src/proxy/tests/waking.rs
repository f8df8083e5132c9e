//! Traffic to sandboxes that are paused.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::{HeaderValue, Method};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{Reply, Rig};
use crate::machine::fake::Mood;

fn app() -> Router {
    let endless = async || {
        let first = futures_util::stream::iter([Ok::<_, std::convert::Infallible>("begun")]);
        let rest = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        axum::body::Body::from_stream(rest)
    };
    Router::new()
        .route("/", get(async || "here"))
        .route("/stream", get(endless))
}

async fn rig(members: Value) -> Rig {
    let mut create = json!({"autoPause": true, "autoResume": {"enabled": true}, "timeout": 20});
    for (name, value) in members.as_object().unwrap() {
        create[name] = value.clone();
    }
    let rig = Rig::with(create).await;
    rig.serve(3_000, app()).await;
    rig.serve(49_983, app()).await;
    rig
}

async fn pause(rig: &Rig, body: Value) {
    let path = format!("/sandboxes/{}/pause", rig.id);
    assert_eq!(rig.client.post(&path, body).await.status, 204);
}

async fn state(rig: &Rig) -> Value {
    rig.client.detail(&rig.id).await["state"].clone()
}

async fn get_with(rig: &Rig, port: u16, header: &'static str, value: &str) -> Reply {
    let mut request = rig.request(Method::GET, port, "/");
    let value = HeaderValue::from_str(value).unwrap();
    request.headers_mut().insert(header, value);
    rig.send(request).await
}

#[tokio::test]
async fn traffic_wakes_a_sandbox_and_waits_for_it() {
    let rig = rig(json!({})).await;
    pause(&rig, json!({})).await;
    let requests = (0..4).map(|_| rig.get(3_000, "/"));
    for reply in futures_util::future::join_all(requests).await {
        assert_eq!((reply.status, reply.text.as_str()), (200, "here"));
    }
    assert_eq!(rig.client.house.fake.plans.lock().unwrap().len(), 2);
    // The time-out of the create, but five minutes at least.
    let detail = rig.client.detail(&rig.id).await;
    let end: jiff::Timestamp = detail["endAt"].as_str().unwrap().parse().unwrap();
    let left = end.as_second() - jiff::Timestamp::now().as_second();
    assert!((298..=300).contains(&left), "{left}");
}

#[tokio::test]
async fn traffic_during_a_pause_wakes_it_afterwards() {
    let rig = rig(json!({})).await;
    let path = format!("/sandboxes/{}/pause", rig.id);
    let (paused, reply) = tokio::join!(
        biased;
        rig.client.post(&path, json!({})),
        rig.get(3_000, "/"),
    );
    assert_eq!(paused.status, 204);
    assert_eq!(reply.text, "here");
}

#[tokio::test]
async fn a_wrong_token_wakes_nothing() {
    let rig = rig(json!({"network": {"allowPublicTraffic": false}})).await;
    let facts = rig.client.manager.known(&rig.id).unwrap().facts.clone();
    pause(&rig, json!({})).await;
    for reply in [
        rig.get(3_000, "/").await,
        get_with(&rig, 3_000, "e2b-traffic-access-token", "wrong").await,
        rig.get(49_983, "/").await,
        get_with(&rig, 49_983, "x-access-token", "wrong").await,
    ] {
        assert_eq!(reply.status, 403, "{}", reply.text);
    }
    assert_eq!(state(&rig).await, "paused");
    let token = facts.access_token.unwrap();
    let reply = get_with(&rig, 49_983, "x-access-token", &token).await;
    assert_eq!(reply.text, "here");
    pause(&rig, json!({})).await;
    let token = facts.traffic_token.unwrap();
    let reply = get_with(&rig, 3_000, "e2b-traffic-access-token", &token).await;
    assert_eq!(reply.text, "here");
}

#[tokio::test]
async fn nothing_else_is_woken() {
    let asleep = rig(json!({"autoResume": {"enabled": false}})).await;
    pause(&asleep, json!({})).await;
    let disk_alone = rig(json!({})).await;
    pause(&disk_alone, json!({"memory": false})).await;
    for rig in [asleep, disk_alone] {
        let reply = rig.get(3_000, "/").await;
        assert_eq!(reply.status, 502);
        assert_eq!(reply.json()["message"], "The sandbox was not found");
        assert_eq!(state(&rig).await, "paused");
    }
}

#[tokio::test]
async fn what_cannot_be_woken_is_said_so_and_stays() {
    let rig = rig(json!({})).await;
    pause(&rig, json!({})).await;
    *rig.client.house.fake.mood.lock().unwrap() = Mood::Fails;
    assert_eq!(rig.get(3_000, "/").await.status, 503);
    *rig.client.house.fake.mood.lock().unwrap() = Mood::Works;
    for _ in 0..8 {
        rig.client.create(json!({})).await;
    }
    assert_eq!(rig.get(3_000, "/").await.status, 429);
    assert_eq!(state(&rig).await, "paused");
}

#[tokio::test]
async fn a_pause_cuts_streams_abnormally() {
    let rig = rig(json!({"autoResume": {"enabled": false}})).await;
    let response = rig.head(rig.request(Method::GET, 3_000, "/stream")).await;
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    pause(&rig, json!({})).await;
    let end = tokio::time::timeout(Duration::from_secs(5), body.frame()).await;
    assert!(matches!(end, Ok(Some(Err(_)))));
    assert_eq!(rig.get(49_983, "/").await.status, 502);
}
