//! The server as a whole: who calls, what is remembered, what it withstands.

mod common;

use std::time::{Duration, Instant};

use common::{ask, get, serve, trusting};
use mock_apis::journal::How;
use mock_apis::server::{Identity, MAX_BODY, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const API: &str = "
version: 1
name: t
seed: 5
services:
  - name: api
    routes:
      - operation: thing
        method: GET
        path: /things/{id}
        reply: {status: 200, body: {ok: true}}
        rules:
          - {when: {query: {hang: '1'}}, fault: {hang: {for_ms: 60000}}}
          - {when: {query: {maybe: '1'}}, schedule: {probability: 0.5}, fault: {server_error: {}}}
          - {when: {query: {next: '1'}}, then_state: second, reply: {status: 202}}
          - {when: {state: second, query: {state: '1'}}, reply: {status: 203}}
      - operation: limited
        method: GET
        path: /limited
        quota: {limit: {fixed_window: {limit: 2, window_ms: 3600000}}}
        reply: {status: 200}
      - operation: make
        method: POST
        path: /make
        idempotency: required
        latency: {fixed_ms: 400}
        reply: {status: 201, body: {id: a}}
";

fn callers(server: &Server) -> Vec<String> {
    server
        .shared
        .lock()
        .journal
        .entries()
        .iter()
        .map(|entry| entry.caller.clone())
        .collect()
}

#[tokio::test]
async fn a_caller_is_who_a_trusted_front_says_and_never_who_it_says_itself() {
    for (identity, expected) in [
        (trusting(), "sbx-1"),
        (
            Identity {
                trusted: vec![],
                ..trusting()
            },
            "peer:127.0.0.1",
        ),
    ] {
        let server = serve(API, identity).await;
        get(server.front, "/things/1", "\r\nx-sandbox-id: sbx-1").await;
        assert_eq!(callers(&server), [expected]);
    }
}

/// What a daemon writes before the first byte of the guest's (PROXY protocol, version 2).
fn proxy_header(sandbox: &str) -> Vec<u8> {
    let length = |len: usize| u16::try_from(len).unwrap().to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11",
        &length(12 + 3 + sandbox.len())[..],
        &[10, 213, 0, 2, 198, 18, 0, 7, 0x9c, 0x41, 0, 80],
        &[0xE5],
        &length(sandbox.len()),
        sandbox.as_bytes(),
    ]
    .concat()
}

#[tokio::test]
async fn a_front_with_proxy_headers_names_the_sandbox_and_a_connection_without_one_is_closed() {
    let identity = Identity {
        proxy: true,
        ..trusting()
    };
    let server = serve(API, identity).await;
    let said = async |first: &[u8]| {
        let mut stream = TcpStream::connect(server.front).await.unwrap();
        let call = "GET /things/1 HTTP/1.1\r\nhost: api\r\nx-sandbox-id: liar\r\n";
        let calls = format!("{call}\r\n{call}connection: close\r\n\r\n");
        let bytes = [first, calls.as_bytes()].concat();
        stream.write_all(&bytes).await.unwrap();
        let mut reply = Vec::new();
        // What was not read makes the close a reset.
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8(reply).unwrap()
    };
    let replies = said(&proxy_header("sbx-1")).await;
    assert_eq!(replies.matches("HTTP/1.1 200").count(), 2, "{replies}");
    assert_eq!(callers(&server), ["sbx-1", "sbx-1"]);
    assert_eq!(said(b"").await, "");
    assert_eq!(callers(&server).len(), 2);
}

#[tokio::test]
async fn quotas_and_states_are_of_each_caller() {
    let server = serve(API, trusting()).await;
    let call = async |path: &str, caller: &str| {
        get(server.front, path, &format!("\r\nx-sandbox-id: {caller}")).await
    };
    let mut seen = Vec::new();
    for caller in ["a", "a", "a", "b"] {
        seen.push(call("/limited", caller).await.status().unwrap());
    }
    assert_eq!(seen, [200, 200, 429, 200]);
    call("/things/1?next=1", "a").await;
    assert_eq!(call("/things/1?state=1", "a").await.status(), Some(203));
    assert_eq!(call("/things/1?state=1", "b").await.status(), Some(200));
}

#[tokio::test]
async fn routes_that_are_none_are_explained() {
    let server = serve(API, trusting()).await;
    assert_eq!(get(server.front, "/thing/1", "").await.status(), Some(404));
    let wrong = ask(server.front, "DELETE /limited HTTP/1.1\r\nhost: api", "").await;
    assert_eq!(
        (wrong.status(), wrong.header("allow").as_deref()),
        (Some(405), Some("GET"))
    );
    let other = ask(
        server.front,
        "GET /limited HTTP/1.1\r\nhost: nothing.mock.internal",
        "",
    )
    .await;
    assert_eq!(other.status(), Some(404));
    let journal = server.shared.lock().journal.entries()[0]
        .near_misses
        .clone();
    assert_eq!(journal[0], "thing is at /things/{id}: 1 parts differ");
}

#[tokio::test]
async fn a_key_is_required_in_flight_replayed_and_bound_to_its_body() {
    let server = serve(API, trusting()).await;
    let front = server.front;
    let post = move |key: &'static str, body: &'static str| async move {
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("\r\nidempotency-key: {key}")
        };
        ask(
            front,
            &format!("POST /make HTTP/1.1\r\nhost: api{key}"),
            body,
        )
        .await
    };
    assert_eq!(post("", "{}").await.status(), Some(400));
    let first = tokio::spawn(post("k", "{}"));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(post("k", "{}").await.status(), Some(409));
    assert_eq!(post("k", "[]").await.status(), Some(422));
    assert_eq!(first.await.unwrap().status(), Some(201));
    let again = post("k", "{}").await;
    assert_eq!(
        (
            again.status(),
            again.header("idempotency-replayed").as_deref()
        ),
        (Some(201), Some("true"))
    );
}

#[tokio::test]
async fn two_runs_of_one_seed_have_the_same_journal_byte_for_byte() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let server = serve(API, trusting()).await;
        for n in 0..40 {
            get(
                server.front,
                "/things/1?maybe=1",
                &format!("\r\nx-sandbox-id: sbx-{}", n % 3),
            )
            .await;
        }
        // Whoever reads the last byte may be here before the last end is noted.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let entries = server.shared.lock().journal.entries().to_vec();
        let lines: Vec<_> = entries
            .into_iter()
            .map(|entry| serde_json::to_string(&entry.without_times()).unwrap())
            .collect();
        runs.push(lines.join("\n"));
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains("server_error") && runs[0].contains("\"status\":200"));
}

#[tokio::test]
async fn the_admin_api_shows_and_forgets() {
    let server = serve(API, trusting()).await;
    get(
        server.front,
        "/things/1",
        "\r\nx-sandbox-id: a\r\nauthorization: Bearer secret-word",
    )
    .await;
    get(server.front, "/things/2", "\r\nx-sandbox-id: b").await;
    let admin =
        async |line: &str| ask(server.admin, &format!("{line} HTTP/1.1\r\nhost: x"), "").await;
    let one = admin("GET /journal?caller=a").await.body();
    assert_eq!(one.lines().count(), 1);
    assert!(!one.contains("secret-word") && one.contains("\"credential\":\""));
    let har: serde_json::Value =
        serde_json::from_str(&admin("GET /journal.har").await.body()).unwrap();
    assert_eq!(
        har["log"]["entries"][1]["request"]["url"],
        "http://api.mock.internal/things/2"
    );
    assert!(
        admin("GET /metrics")
            .await
            .body()
            .contains("mock_apis_calls{service=\"api\",operation=\"thing\",fault=\"\"} 2")
    );
    assert_eq!(admin("POST /reset").await.status(), Some(204));
    assert_eq!(admin("GET /journal").await.body(), "");
}

#[tokio::test]
async fn a_body_without_end_is_refused_and_a_client_that_leaves_is_noted() {
    let server = serve(API, trusting()).await;
    let mut stream = TcpStream::connect(server.front).await.unwrap();
    stream
        .write_all(b"POST /make HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0;
    while sent < 64 * MAX_BODY && stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += 0x10000;
    }
    assert!(sent < 64 * MAX_BODY, "nobody stopped it");

    let mut stream = TcpStream::connect(server.front).await.unwrap();
    stream
        .write_all(b"GET /things/1?hang=1 HTTP/1.1\r\nhost: api\r\n\r\n")
        .await
        .unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0])).await;
    assert!(nothing.is_err());
    drop(stream);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let entry = server
        .shared
        .lock()
        .journal
        .entries()
        .last()
        .unwrap()
        .clone();
    let end = entry.end.unwrap();
    assert_eq!(end.how, How::ClientLeft);
    assert!((150..5000).contains(&(end.at_ms - entry.at_ms)));
}

#[tokio::test]
async fn hundreds_that_hang_do_not_disturb_the_others() {
    let server = serve(API, trusting()).await;
    // Both ends are in this process: as many as the usual limit of 1,024 descriptors has room for.
    let count = 400;
    let mut hung = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(server.front).await.unwrap();
        stream
            .write_all(b"GET /things/1?hang=1 HTTP/1.1\r\nhost: api\r\n\r\n")
            .await
            .unwrap();
        hung.push(stream);
    }
    let began = Instant::now();
    while server.shared.lock().journal.entries().len() < count
        && began.elapsed() < Duration::from_secs(20)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.shared.lock().journal.entries().len(), count);
    let seen = get(server.front, "/things/1", "").await;
    assert!(
        seen.status() == Some(200) && seen.took < Duration::from_secs(2),
        "{:?}",
        seen.took
    );
}
