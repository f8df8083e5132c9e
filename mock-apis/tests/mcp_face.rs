//! The MCP face byte by byte: the same decisions as over HTTP, and what it withstands.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Seen, ask, get, serve, trusting};
use mock_apis::engine::Face;
use mock_apis::journal::{Entry, How};
use mock_apis::mcp::PATH;
use mock_apis::server::{Identity, MAX_BODY, Server};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
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
        quota: {limit: {fixed_window: {limit: 12, window_ms: 3600000}}}
        reply: {status: 200, body: {ok: true}}
        rules:
          - {when: {query: {hang: '1'}}, fault: {hang: {for_ms: 60000}}}
          - {when: {query: {maybe: '1'}}, schedule: {probability: 0.5}, fault: {server_error: {}}}
          - {schedule: {nth: [2]}, then_state: second, reply: {status: 202}}
          - {when: {state: second}, reply: {status: 203}}
      - operation: make
        method: POST
        path: /make
        idempotency: required
        latency: {fixed_ms: 400}
        reply: {status: 201, body: {id: a}}
";

fn head(more: &str) -> String {
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json\r\nmcp-protocol-version: 2025-06-18{more}"
    )
}

async fn send(address: SocketAddr, headers: &str, message: &Value) -> Seen {
    ask(address, &head(headers), &message.to_string()).await
}

/// The JSON-RPC message that answers a call.
async fn tool(address: SocketAddr, name: &str, given: Value, headers: &str) -> Value {
    let params = json!({"name": name, "arguments": given});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let seen = send(address, headers, &call).await;
    serde_json::from_str(&seen.body()).unwrap_or_else(|_| panic!("{}", seen.text()))
}

fn status(message: &Value) -> &Value {
    &message["result"]["_meta"]["mock-apis/reply"]["status"]
}

fn journal(server: &Server) -> Vec<Entry> {
    server.shared.lock().journal.entries().to_vec()
}

#[tokio::test]
async fn a_tool_call_is_decided_as_the_same_call_over_http() {
    let (http, mcp) = (serve(API, trusting()).await, serve(API, trusting()).await);
    for n in 0..45 {
        let headers = format!("\r\nx-sandbox-id: sbx-{}", n % 3);
        get(http.front, "/things/1?maybe=1", &headers).await;
        let given = json!({"id": 1, "query": {"maybe": 1}});
        tool(mcp.mcp, "api_thing", given, &headers).await;
    }
    let seen = |server: &Server, face| {
        let entries = journal(server).into_iter();
        let one = |it: Entry| {
            assert_eq!(it.face, face);
            (
                it.caller,
                it.operation,
                it.rule,
                it.fault,
                it.reply,
                it.request.path,
                it.request.query,
            )
        };
        entries.map(one).collect::<Vec<_>>()
    };
    let over_http = seen(&http, Face::Http);
    assert_eq!(over_http, seen(&mcp, Face::Mcp));
    // Quota, probability and state have all come up.
    for wanted in [200, 202, 203, 429, 500] {
        let met = |reply: &mock_apis::journal::SeenReply| reply.status == wanted;
        assert!(
            over_http.iter().any(|it| it.4.as_ref().is_some_and(met)),
            "{wanted}"
        );
    }
}

#[tokio::test]
async fn the_front_leads_to_it_by_the_name_mcp() {
    let server = serve(API, trusting()).await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    for (host, status) in [("mcp.mock.internal", 200), ("other.mock.internal", 404)] {
        let named = head("").replace("host: x", &format!("host: {host}"));
        let seen = ask(server.front, &named, &list).await;
        assert_eq!(seen.status(), Some(status), "{host}");
        assert_eq!(seen.text().contains("api_thing"), status == 200, "{host}");
    }
}

#[tokio::test]
async fn a_key_is_an_argument_and_a_caller_is_its_connection() {
    let server = serve(
        API,
        Identity {
            trusted: vec![],
            ..trusting()
        },
    )
    .await;
    let mcp = server.mcp;
    let make = move |given: Value| async move {
        tool(
            mcp,
            "api_make",
            given,
            "\r\nx-sandbox-id: somebody\r\nauthorization: Bearer word",
        )
        .await
    };
    assert_eq!(status(&make(json!({})).await), 400);
    let began = Instant::now();
    let first = tokio::spawn(make(json!({"idempotency_key": "k", "body": {}})));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(
        status(&make(json!({"idempotency_key": "k", "body": {}})).await),
        409
    );
    assert_eq!(
        status(&make(json!({"idempotency_key": "k", "body": []})).await),
        422
    );
    let first = first.await.unwrap();
    assert_eq!(first["result"]["structuredContent"], json!({"id": "a"}));
    assert!(began.elapsed() >= Duration::from_millis(400));
    let again = make(json!({"idempotency_key": "k", "body": {}})).await;
    let headers = &again["result"]["_meta"]["mock-apis/reply"]["headers"];
    assert_eq!(headers["idempotency-replayed"], "true");
    let entry = &journal(&server)[0];
    assert_eq!(entry.caller, "peer:127.0.0.1");
    assert!(entry.request.credential.is_some() && !entry.request.headers.contains_key("accept"));
    assert_eq!(entry.end.map(|end| end.how), Some(How::Sent));
}

#[tokio::test]
async fn a_contract_and_its_credentials_hold_for_tools() {
    let text = std::fs::read_to_string(common::scenarios().join("travel.yaml")).unwrap();
    let server = serve(&text, Identity::default()).await;
    let pay = async |body: Value, headers: &str| {
        let given = json!({"body": body, "X-Approval-Token": "t", "idempotency_key": "k"});
        tool(server.mcp, "payments_pay", given, headers).await
    };
    let (right, token) = (
        json!({"flight": "x", "amount": 1}),
        "\r\nauthorization: Bearer travel-agent",
    );
    // The scenario does the work of the first payment and answers 503; who asks again with the key has the result.
    assert_eq!(status(&pay(right.clone(), token).await), 503);
    let paid = pay(right.clone(), token).await;
    assert_eq!(
        paid["result"]["structuredContent"],
        json!({"id": "pay-1", "state": "paid"})
    );
    assert_eq!(status(&pay(right, "").await), 401);
    let wrong = pay(json!({"flight": "x", "amount": 0}), token).await;
    assert_eq!(status(&wrong), 422);
    assert!(
        wrong["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("/amount")
    );
    let headers = &journal(&server)[0].request.headers;
    assert_eq!(
        (
            headers["x-approval-token"].as_str(),
            headers["idempotency-key"].as_str()
        ),
        ("t", "k")
    );
}

#[tokio::test]
async fn an_agent_is_told_where_the_server_is() {
    let scenario = mock_apis::scenario::from_text(API).unwrap();
    let server = serve(API, Identity::default()).await;
    let agent = ["printenv".to_owned(), "MCP_URL".to_owned()];
    let limit = Duration::from_secs(20);
    let run = mock_apis::contract_run::local::run(&server, &scenario, &agent, limit);
    let said = run.await.unwrap().stdout;
    assert!(
        said.starts_with("http://127.0.0.1:") && said.trim_end().ends_with(PATH),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_no_call_is_refused_and_said() {
    let server = serve(API, trusting()).await;
    let miss = tool(server.mcp, "api_thinc", json!({"a": 1}), "").await;
    assert_eq!(miss["error"]["code"], -32602);
    let hole = tool(server.mcp, "api_thing", json!({"other": 1}), "").await;
    assert_eq!(
        (status(&hole), &hole["result"]["isError"]),
        (&json!(400), &json!(true))
    );
    let entries = journal(&server);
    assert_eq!(
        entries[0].near_misses[0],
        "api_thing is a tool: 1 letters differ"
    );
    assert_eq!(
        (entries[0].status(), entries[0].request.body.as_str()),
        (Some(404), "{\"a\":1}")
    );
    assert_eq!(
        (entries[1].status(), entries[1].name()),
        (Some(400), Some("api.thing".into()))
    );
    // What is no MCP is refused by the protocol, and is no call.
    for body in [
        "",
        "[",
        "{}",
        "[[]]",
        "null",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}",
    ] {
        let seen = ask(server.mcp, &head(""), body).await;
        assert!(
            seen.status().is_some_and(|status| status < 500),
            "{body}: {}",
            seen.text()
        );
    }
    let deep = format!("{}1{}", "[".repeat(9_000), "]".repeat(9_000));
    assert_eq!(ask(server.mcp, &head(""), &deep).await.status(), Some(415));
    assert_eq!(get(server.mcp, PATH, "").await.status(), Some(405));
    assert_eq!(get(server.mcp, "/elsewhere", "").await.status(), Some(404));
    assert_eq!(journal(&server).len(), 2);
}

#[tokio::test]
async fn a_body_without_end_is_refused() {
    let server = serve(API, trusting()).await;
    let seen = ask(server.mcp, &head(""), &"x".repeat(MAX_BODY + 1)).await;
    assert_eq!(seen.status(), Some(413));
    assert_eq!(
        status(&tool(server.mcp, "api_thing", json!({"id": 1}), "").await),
        200
    );
}

#[tokio::test]
async fn callers_that_hang_or_leave_disturb_nobody_and_leave_nothing_behind() {
    let server = serve(API, trusting()).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let call = |name: &str, given: Value| {
        let params = json!({"name": name, "arguments": given});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let body = body.to_string();
        format!(
            "{}\r\ncontent-length: {}\r\n\r\n{body}",
            head(""),
            body.len()
        )
    };
    // Some meet a hang, the others leave while the reply is held back.
    let hang = call("api_thing", json!({"id": 1, "query": {"hang": 1}}));
    let slow = call("api_make", json!({"idempotency_key": "k"}));
    let mut crowd = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(server.mcp).await.unwrap();
        let request = if n % 2 == 0 { &hang } else { &slow };
        stream.write_all(request.as_bytes()).await.unwrap();
        crowd.push(stream);
    }
    let asked = Instant::now();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    assert!(
        send(server.mcp, "", &list)
            .await
            .text()
            .contains("api_thing")
    );
    assert!(asked.elapsed() < Duration::from_secs(5));
    while journal(&server).len() < 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(crowd);
    let late = Instant::now() + Duration::from_secs(10);
    while tasks() > before && Instant::now() < late {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(tasks(), before);
    assert!(journal(&server).iter().all(|entry| entry.end.is_some()));
}
