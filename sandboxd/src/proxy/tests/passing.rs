//! Bodies and switched protocols in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request as AxumRequest;
use axum::response::Response as AxumResponse;
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Rig;

#[tokio::test]
async fn large_bodies_pass_whole_in_both_directions() {
    let rig = Rig::new().await;
    let app = Router::new().route(
        "/",
        post(async |request: AxumRequest| AxumResponse::new(request.into_body())),
    );
    rig.serve(49_983, app).await;
    let chunk = Bytes::from((0..=255u8).cycle().take(64 << 10).collect::<Vec<_>>());
    let chunks = 320;
    let mut sent = Sha256::new();
    for _ in 0..chunks {
        sent.update(&chunk);
    }
    let body =
        StreamBody::new(stream::iter((0..chunks).map(move |_| {
            Ok::<_, std::convert::Infallible>(Frame::data(chunk.clone()))
        })));
    let mut http2 = rig.http2().await;
    let uri = format!("http://{}/", rig.host(49_983));
    let request = Request::post(uri).body(body).unwrap();
    let response = http2.send_request(request).await.unwrap();
    let mut received = Sha256::new();
    let mut length = 0;
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.unwrap().into_data() {
            assert!(!data.is_empty() || body.frame().await.is_none());
            length += data.len();
            received.update(&data);
        }
    }
    assert_eq!(length, chunks * (64 << 10));
    assert_eq!(received.finalize(), sent.finalize());
}

#[tokio::test]
async fn chunks_arrive_when_they_are_sent_not_when_the_answer_ends() {
    let rig = Rig::new().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(1);
    let receiver = Arc::new(tokio::sync::Mutex::new(Some(receiver)));
    let app = Router::new().route(
        "/",
        get(async move || {
            let mut receiver = receiver.lock().await.take().unwrap();
            Body::from_stream(stream::poll_fn(move |context| {
                receiver
                    .poll_recv(context)
                    .map(|text| text.map(Ok::<_, std::convert::Infallible>))
            }))
        }),
    );
    rig.serve(8_080, app).await;
    let response = rig.head(rig.request(Method::GET, 8_080, "/")).await;
    let mut body = response.into_body();
    for text in ["one", "two", "three"] {
        sender.send(text).await.unwrap();
        let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await;
        let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, text);
    }
    drop(sender);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_guest_and_not_the_daemon() {
    let rig = Rig::new().await;
    let produced = Arc::new(AtomicUsize::new(0));
    let counter = produced.clone();
    let app = Router::new().route(
        "/",
        get(async move || {
            let chunk = Bytes::from(vec![7u8; 64 << 10]);
            Body::from_stream(stream::repeat(chunk).map(move |chunk| {
                counter.fetch_add(chunk.len(), Ordering::Relaxed);
                Ok::<_, std::convert::Infallible>(chunk)
            }))
        }),
    );
    rig.serve(8_080, app).await;
    let response = rig.head(rig.request(Method::GET, 8_080, "/")).await;
    let mut last = usize::MAX;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = produced.load(Ordering::Relaxed);
        if now == last {
            break;
        }
        last = now;
    }
    assert_eq!(last, produced.load(Ordering::Relaxed), "it never stopped");
    // What sockets and buffers between them hold, far from "without bound".
    assert!(last < 64 << 20, "{last} bytes are under way");
    drop(response);
}

#[tokio::test]
async fn trailers_pass_over_http2() {
    let rig = Rig::new().await;
    let app = Router::new().route(
        "/",
        any(async |request: AxumRequest| {
            assert_eq!(request.headers()["te"], "trailers");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let frames = [Frame::data(Bytes::from("x")), Frame::trailers(trailers)];
            let frames = frames.map(Ok::<_, std::convert::Infallible>);
            let mut response = AxumResponse::new(Body::new(StreamBody::new(stream::iter(frames))));
            let names = HeaderValue::from_static("grpc-status");
            response.headers_mut().insert("trailer", names);
            response
        }),
    );
    rig.serve(8_080, app).await;
    let mut http2 = rig.http2::<Full<Bytes>>().await;
    let uri = format!("http://{}/", rig.host(8_080));
    let request = Request::post(uri).header("te", "trailers");
    let request = request.body(Full::default()).unwrap();
    let response = http2.send_request(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "x");
}

/// A server that switches to a protocol in which every byte comes back.
async fn switching_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                assert!(head.contains("upgrade: websocket\r\n"), "{head}");
                assert!(head.contains("sec-websocket-key: k\r\n"), "{head}");
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                              Upgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\nhello";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

fn switch(rig: &Rig) -> Request<Full<Bytes>> {
    let mut request = rig.request(Method::GET, 8_080, "/socket");
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "k"),
    ] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    request
}

#[tokio::test]
async fn a_switched_protocol_passes_both_ways_and_is_cut_with_the_sandbox() {
    let rig = Rig::new().await;
    rig.open(8_080, switching_server().await);
    let response = rig.head(switch(&rig)).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["sec-websocket-accept"], "a");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut buffer = [0u8; 5];
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
    stream.write_all(b"again").await.unwrap();
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"again");
    rig.client.manager.kill(&rig.id).await.unwrap();
    let rest = stream.read(&mut buffer).await;
    assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
}

#[tokio::test]
async fn connections_have_a_limit_that_streams_count_against() {
    let rig = Rig::new().await;
    rig.open(8_080, switching_server().await);
    let mut held = Vec::new();
    for _ in 0..4 {
        let response = rig.head(switch(&rig)).await;
        held.push(hyper::upgrade::on(response).await.unwrap());
    }
    let full = rig.get(8_080, "/").await;
    assert_eq!(full.status, 429);
    assert_eq!(full.json()["connectionLimit"], 4);
    drop(held.pop());
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if rig.head(switch(&rig)).await.status() == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
    }
    panic!("a place that was given up never came back");
}

/// Sends `head`, then after a moment `body`, then a second request, and gives what comes back in all.
async fn late_body(rig: &Rig, head: &str, body: &[u8]) -> String {
    let mut stream = rig.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _ = stream.write_all(body).await;
    let second = "GET /health HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
    let _ = stream.write_all(second.as_bytes()).await;
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers).await;
    String::from_utf8_lossy(&answers).into_owned()
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_end_the_connection() {
    let rig = Rig::new().await;
    rig.serve(
        8080,
        Router::new().route("/", axum::routing::post(async || "early")),
    )
    .await;
    let to_api = "POST /no/such/path HTTP/1.1\r\nhost: api\r\ncontent-length: 9\r\n\r\n".to_owned();
    let to_guest = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\n\r\n",
        rig.host(8080)
    );
    let to_nobody = to_guest.replace("8080-", "8081-");
    for (head, status) in [(to_api, "404"), (to_guest, "200"), (to_nobody, "502")] {
        let answers = late_body(&rig, &head, b"too late!").await;
        let first = format!("HTTP/1.1 {status}");
        assert!(answers.starts_with(&first), "{head}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{head}: {answers}");
    }
}

#[tokio::test]
async fn a_client_is_told_when_its_body_is_too_large_to_be_thrown_away() {
    let rig = Rig::new().await;
    let head =
        "POST /no/such/path HTTP/1.1\r\nhost: api\r\ncontent-length: 99999999\r\n\r\n".to_owned();
    let answers = late_body(&rig, &head, b"the first of many").await;
    assert!(answers.starts_with("HTTP/1.1 404"), "{answers}");
    assert!(
        answers.to_lowercase().contains("connection: close"),
        "{answers}"
    );
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
}
