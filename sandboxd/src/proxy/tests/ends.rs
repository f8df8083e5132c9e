//! What clients see when a sandbox or a server in it ends.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::Rig;
use crate::machine::Machine;

/// An answer that begins and never ends, and one that never begins.
fn endless() -> Router {
    let streaming = async || {
        let first = stream::iter([Ok::<_, std::convert::Infallible>("begun")]);
        Body::from_stream(first.chain(stream::pending()))
    };
    let silent = async || std::future::pending::<()>().await;
    Router::new()
        .route("/stream", get(streaming))
        .route("/silent", get(silent))
        .route("/health", get(async || ""))
}

async fn is_gone(rig: &Rig) {
    let health = rig.get(49_983, "/health").await;
    assert_eq!(health.status, 502);
    assert_eq!(
        health.json(),
        json!({"sandboxId": rig.id.as_str(), "message": "The sandbox was not found", "code": 502})
    );
}

#[tokio::test]
async fn a_kill_cuts_a_stream_abnormally_over_http1() {
    let rig = Rig::new().await;
    rig.serve(49_983, endless()).await;
    let response = rig.head(rig.request(Method::GET, 49_983, "/stream")).await;
    let mut body = response.into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "begun"
    );
    let path = format!("/sandboxes/{}", rig.id);
    assert_eq!(rig.client.call("DELETE", &path, None).await.status, 204);
    is_gone(&rig).await;
    let end = tokio::time::timeout(Duration::from_secs(5), body.frame()).await;
    assert!(
        matches!(end, Ok(Some(Err(_)))),
        "a truncated body must not look whole"
    );
}

#[tokio::test]
async fn a_kill_cuts_a_stream_abnormally_over_http2() {
    let rig = Rig::new().await;
    rig.serve(49_983, endless()).await;
    let mut http2 = rig.http2::<Full<Bytes>>().await;
    let uri = format!("http://{}/stream", rig.host(49_983));
    let request = Request::get(uri).body(Full::default()).unwrap();
    let mut body = http2.send_request(request).await.unwrap().into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "begun"
    );
    rig.client.manager.kill(&rig.id).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), body.frame()).await;
    assert!(matches!(end, Ok(Some(Err(_)))));
}

#[tokio::test]
async fn a_request_that_waits_is_told_that_the_sandbox_is_gone() {
    let rig = Rig::new().await;
    rig.serve(49_983, endless()).await;
    let kill = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.client.manager.kill(&rig.id).await.unwrap();
    };
    let (waiting, ()) = tokio::join!(rig.get(49_983, "/silent"), kill);
    assert_eq!(waiting.status, 502);
    assert_eq!(waiting.json()["message"], "The sandbox was not found");
}

#[tokio::test]
async fn a_machine_that_dies_by_itself_cuts_its_streams_too() {
    let rig = Rig::new().await;
    rig.serve(49_983, endless()).await;
    let response = rig.head(rig.request(Method::GET, 49_983, "/stream")).await;
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    rig.client.house.fake.machine(&rig.id).unwrap().kill();
    let end = tokio::time::timeout(Duration::from_secs(5), body.frame()).await;
    assert!(matches!(end, Ok(Some(Err(_)))));
    is_gone(&rig).await;
    rig.client.house.settled(&rig.client.manager).await;
}

/// A server that says `answer` to every connection and closes it.
async fn blunt(rig: &Rig, answer: &'static str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.open(8_080, listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0u8; 1_024];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
}

#[tokio::test]
async fn a_server_that_makes_no_sense_is_not_a_sandbox_that_is_gone() {
    for nonsense in ["", "SSH-2.0-OpenSSH_9\r\n", "HTTP/1.1 200 OK\r\nbroken"] {
        let rig = Rig::new().await;
        blunt(&rig, nonsense).await;
        let reply = rig.get(8_080, "/").await;
        assert_eq!(reply.status, 502, "{nonsense}");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(!message.contains("was not found") && !message.contains("port is not open"));
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let rig = Rig::new().await;
    blunt(&rig, "HTTP/1.0 200 OK\r\n\r\nall of it").await;
    assert_eq!(rig.get(8_080, "/").await.text, "all of it");
    let short = Rig::new().await;
    blunt(&short, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut").await;
    let response = short.head(short.request(Method::GET, 8_080, "/")).await;
    assert!(response.into_body().collect().await.is_err());
}
