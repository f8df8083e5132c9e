//! Codecs, HTTP versions, tokens, plain routes, and the connections from the host.

mod common;

use std::collections::BTreeMap;

use agent_protocol::control::{Call, Request as ControlRequest};
use agent_protocol::control::{Configure, Limits, Response};
use buffa::{Message, MessageField};
use common::{Envelopes, Server, envelope, header_value};
use guest_agent::proto::process::__buffa::oneof::process_event::Event;
use guest_agent::proto::process::__buffa::oneof::process_event::data_event::Output;
use guest_agent::proto::process::{
    ListRequest, ListResponse, ProcessConfig, StartRequest, StartResponse,
};
use guest_agent::state::{AccessToken, Settings};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::net::TcpListener;

const HOST: u32 = agent_protocol::HOST_CID;

fn start_request(server: &Server, kind: &str) -> Request<Full<bytes::Bytes>> {
    let message = StartRequest {
        process: MessageField::some(ProcessConfig {
            cmd: "/bin/sh".into(),
            args: vec!["-c".into(), "printf hi; exit 2".into()],
            ..Default::default()
        }),
        stdin: Some(false),
        ..Default::default()
    };
    server
        .request("POST", "/process.Process/Start")
        .header("content-type", kind)
        .header("connect-protocol-version", "1")
        .body(Full::from(envelope(0, &message.encode_to_vec())))
        .expect("a request")
}

async fn read_start(response: http::Response<hyper::body::Incoming>) -> (String, i32, Value) {
    assert_eq!(
        header_value(response.headers(), "content-type"),
        "application/connect+proto"
    );
    let mut envelopes = Envelopes::new(response.into_body());
    let (mut output, mut exit_code) = (String::new(), None);
    while let Some((flags, payload)) = envelopes.next().await {
        if flags == 2 {
            let end = serde_json::from_slice(&payload).expect("the end is JSON in every codec");
            return (output, exit_code.expect("an end event"), end);
        }
        let message = StartResponse::decode_from_slice(&payload).expect("a message");
        match message
            .event
            .as_option()
            .and_then(|event| event.event.clone())
        {
            Some(Event::Data(data)) => match data.output {
                Some(Output::Stdout(bytes)) => output.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?}"),
            },
            Some(Event::End(end)) => exit_code = Some(end.exit_code),
            _ => {}
        }
    }
    panic!("no end envelope");
}

#[tokio::test]
async fn the_binary_codec_works_on_both_http_versions() {
    let server = Server::start().await;
    let http1 = server
        .send(start_request(&server, "application/connect+proto"))
        .await;
    assert_eq!(read_start(http1).await, ("hi".into(), 2, json!({})));
    let http2 = server
        .send_h2c(start_request(&server, "application/connect+proto"))
        .await;
    assert_eq!(http2.version(), http::Version::HTTP_2);
    assert_eq!(read_start(http2).await, ("hi".into(), 2, json!({})));

    let unary = server
        .request("POST", "/process.Process/List")
        .header("content-type", "application/proto")
        .body(Full::from(ListRequest::default().encode_to_vec()))
        .expect("a request");
    let body = server
        .send(unary)
        .await
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert!(
        ListResponse::decode_from_slice(&body)
            .expect("a message")
            .processes
            .is_empty()
    );
}

#[tokio::test]
async fn nothing_is_compressed() {
    let server = Server::start().await;
    let request = server
        .request("POST", "/process.Process/List")
        .header("content-type", "application/json")
        .header("accept-encoding", "zstd,gzip,br")
        .body(Full::from("{}"))
        .expect("a request");
    let response = server.send(request).await;
    assert_eq!(header_value(response.headers(), "content-encoding"), "");
}

#[tokio::test]
async fn unusable_calls_get_the_codes_of_the_protocol() {
    let server = Server::start().await;
    let (status, body) = server
        .unary("process.Process/SendSignal", json!({"process": 5}))
        .await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::BAD_REQUEST, Some("invalid_argument"))
    );
    let (status, body) = server.unary("process.Process/Nothing", json!({})).await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::NOT_FOUND, Some("unimplemented"))
    );
    let (status, _) = server.http("GET", "/process.Process/Start", None).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_token_guards_everything_but_health() {
    let server = Server::with(Settings {
        configured: true,
        access_token: AccessToken::new("secret".into()),
        ..Settings::default()
    })
    .await;
    assert_eq!(
        server.http("GET", "/health", None).await.0,
        StatusCode::NO_CONTENT
    );
    for path in ["/metrics", "/envs"] {
        for token in [None, Some(""), Some("secre"), Some("other")] {
            let (status, body) = server.http("GET", path, token).await;
            assert_eq!(
                (status, body["code"].as_u64()),
                (StatusCode::UNAUTHORIZED, Some(401)),
                "{path}"
            );
            assert!(
                body["message"]
                    .as_str()
                    .expect("text")
                    .contains("unauthorized access")
            );
        }
        assert_eq!(
            server.http("GET", path, Some("secret")).await.0,
            StatusCode::OK
        );
    }
    let refused = server.unary("process.Process/List", json!({})).await;
    assert_eq!(refused.0, StatusCode::UNAUTHORIZED);
    let token = [("x-access-token", "secret")];
    let listed = server
        .unary_with("process.Process/List", json!({}), &token)
        .await;
    assert_eq!(listed, (StatusCode::OK, json!({})));
}

#[tokio::test]
async fn before_configure_only_health_answers() {
    let server = Server::with(Settings::default()).await;
    assert_eq!(
        server.http("GET", "/health", None).await.0,
        StatusCode::NO_CONTENT
    );
    for path in ["/metrics", "/envs", "/files?path=x"] {
        assert_eq!(
            server.http("GET", path, None).await.0,
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}"
        );
    }
    let started = server.unary("process.Process/List", json!({})).await;
    assert_eq!(started.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn metrics_and_envs_have_their_members() {
    let server = Server::start().await;
    server
        .agent()
        .state
        .update(|s| s.env = [("A".to_owned(), "1".to_owned())].into());
    assert_eq!(
        server.http("GET", "/envs", None).await,
        (StatusCode::OK, json!({"A": "1"}))
    );
    let (_, metrics) = server.http("GET", "/metrics", None).await;
    let names: Vec<&str> = metrics
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    insta::assert_snapshot!(names.join(" "), @"cpu_count cpu_used_pct disk_total disk_used mem_cache mem_total mem_total_mib mem_used mem_used_mib ts");
}

#[tokio::test]
async fn internal_routes_and_unknown_ones_are_not_there() {
    let server = Server::start().await;
    for path in [
        "/",
        "/freeze",
        "/unfreeze",
        "/fsfreeze",
        "/fsthaw",
        "/collapse",
        "/upgrade",
    ] {
        let (status, body) = server.http("POST", path, None).await;
        assert_eq!(
            (status, body["code"].as_u64()),
            (StatusCode::NOT_FOUND, Some(404)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn browsers_may_ask_first() {
    let server = Server::start().await;
    let request = server
        .request("OPTIONS", "/process.Process/Start")
        .header("origin", "https://example.com")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "x-access-token,authorization",
        )
        .body(Full::default())
        .expect("a request");
    let response = server.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        header_value(response.headers(), "access-control-allow-origin"),
        "*"
    );
    assert_eq!(
        header_value(response.headers(), "access-control-allow-headers"),
        "x-access-token,authorization"
    );
}

async fn init(server: &Server, body: Value) -> StatusCode {
    let request = server
        .request("POST", "/init")
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .expect("a request");
    server.send(request).await.status()
}

#[tokio::test]
async fn init_sets_what_it_carries_and_keeps_the_token() {
    let server = Server::start().await;
    let body = json!({
        "envVars": {"A": "1"}, "accessToken": "t", "timestamp": "2026-01-02T03:04:05.678Z",
        "defaultUser": "root", "defaultWorkdir": "/", "hyperloopIP": "192.0.2.1", "lifecycleID": "x",
    });
    assert_eq!(init(&server, body).await, StatusCode::NO_CONTENT);
    let settings = server.agent().state.settings();
    assert_eq!(settings.env.get("A").map(String::as_str), Some("1"));
    assert_eq!(
        settings.env.get("E2B_EVENTS_ADDRESS").map(String::as_str),
        Some("http://192.0.2.1")
    );
    assert_eq!(
        (
            settings.default_user.as_str(),
            settings.default_workdir.as_deref()
        ),
        ("root", Some("/"))
    );

    for body in [
        json!({}),
        json!({"accessToken": "other"}),
        json!({"envVars": {}}),
    ] {
        assert_eq!(init(&server, body).await, StatusCode::UNAUTHORIZED);
    }
    let kept = json!({"accessToken": "t"});
    assert_eq!(init(&server, kept).await, StatusCode::NO_CONTENT);
    assert_eq!(
        server
            .agent()
            .state
            .settings()
            .env
            .get("A")
            .map(String::as_str),
        Some("1")
    );
    for body in [
        json!({"accessToken": "t", "caBundle": "-----BEGIN"}),
        json!({"accessToken": "t", "volumeMounts": [{"nfs_target": "x", "path": "/x"}]}),
        json!({"accessToken": 5}),
    ] {
        assert_eq!(
            init(&server, body.clone()).await,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
}

/// Opens a connection as the host's daemon does and reads the answer to its first line.
async fn open(server: &Server, line: &str, peer: u32) -> (BufReader<DuplexStream>, String) {
    let (ours, theirs) = duplex(64 << 10);
    let connections = server.connections();
    tokio::spawn(async move { connections.serve(theirs, peer).await });
    let mut stream = BufReader::new(ours);
    stream.write_all(line.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_line(&mut answer).await.expect("an answer");
    (stream, answer)
}

async fn control(stream: &mut BufReader<DuplexStream>, line: &str) -> String {
    stream.write_all(line.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_line(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn a_control_connection_configures_the_sandbox() {
    let server = Server::with(Settings::default()).await;
    let (mut stream, answer) = open(&server, "CONTROL\n", HOST).await;
    assert_eq!(answer, "OK\n");
    let hello: Value =
        serde_json::from_str(&control(&mut stream, "{\"id\":1,\"op\":\"hello\"}\n").await)
            .expect("JSON");
    assert_eq!(
        (hello["id"].as_u64(), hello["ok"]["protocol"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(hello["ok"]["boot_id"].as_str().map(str::len), Some(36));

    let configure = Configure {
        sandbox_id: "isandbox".into(),
        template_id: "base".into(),
        hostname: "box".into(),
        access_token: Some("t".into()),
        env: BTreeMap::from([("A".into(), "1".into())]),
        default_user: "root".into(),
        default_workdir: Some("/".into()),
        unix_time_ns: 1,
        network: None,
        limits: Limits {
            pids_max: 100,
            memory_reserve_mib: 32,
        },
        code_interpreter: false,
        entropy: None,
    };
    let request = ControlRequest {
        id: 2,
        call: Call::Configure(Box::new(configure)),
    };
    let line = String::from_utf8(request.to_line().expect("a line")).expect("UTF-8");
    assert_eq!(control(&mut stream, &line).await, "{\"id\":2,\"ok\":{}}\n");
    let (_, envs) = server.http("GET", "/envs", Some("t")).await;
    insta::assert_snapshot!(envs, @r#"{"A":"1","E2B_SANDBOX":"true","E2B_SANDBOX_ID":"isandbox","E2B_TEMPLATE_ID":"base"}"#);

    assert_eq!(
        control(&mut stream, "{\"id\":3,\"op\":\"sync\",\"args\":{}}\n").await,
        "{\"id\":3,\"ok\":{}}\n"
    );
    let metrics = control(&mut stream, "{\"id\":4,\"op\":\"metrics\",\"args\":{}}\n").await;
    let metrics = Response::parse(metrics.as_bytes())
        .expect("a reply")
        .result
        .expect("ok");
    assert!(metrics["mem_total"].as_u64().is_some_and(|bytes| bytes > 0));
    insta::assert_snapshot!(
        control(&mut stream, "{\"id\":5,\"op\":\"explode\"}\n").await,
        @r#"{"id":5,"error":{"code":"unknown_op","message":"The operation `explode` does not exist."}}"#
    );
    let nonsense = control(&mut stream, "nonsense\n").await;
    assert!(nonsense.contains("bad_request"), "{nonsense}");
}

#[tokio::test]
async fn an_endless_control_line_ends_the_connection() {
    let server = Server::start().await;
    let (stream, _) = open(&server, "CONTROL\n", HOST).await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        // The agent stops reading at its limit; the rest of the write fails or is dropped.
        let _ = writer.write_all(&vec![b'x'; 2 << 20]).await;
    });
    let mut answer = String::new();
    reader.read_to_string(&mut answer).await.expect("closed");
    assert!(answer.contains("bad_request"), "{answer}");
    writing.await.expect("no panic");
}

#[tokio::test]
async fn only_the_host_controls_and_odd_lines_are_refused() {
    let server = Server::start().await;
    let (_, answer) = open(&server, "CONTROL\n", 3).await;
    assert_eq!(
        answer,
        "ERR forbidden Only the host may open a control connection.\n"
    );
    let (_, answer) = open(&server, "GET / HTTP/1.1\n", HOST).await;
    assert!(answer.starts_with("ERR unknown "), "{answer}");
    let (_, answer) = open(&server, "TCP 0\n", HOST).await;
    assert!(answer.starts_with("ERR bad_port "), "{answer}");
    let (_, answer) = open(&server, &"x".repeat(200), HOST).await;
    assert!(answer.starts_with("ERR too_long "), "{answer}");
}

#[tokio::test]
async fn a_tunnel_reaches_a_port_and_keeps_half_closed_streams() {
    let server = Server::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut all = Vec::new();
        // Answers only after the end of the input: the other direction must still be open then.
        stream.read_to_end(&mut all).await.expect("read");
        stream.write_all(&all).await.expect("written");
    });
    let (mut stream, answer) = open(&server, &format!("TCP {port}\n"), HOST).await;
    assert_eq!(answer, "OK\n");
    let payload = vec![7u8; 1 << 20];
    stream.write_all(&payload).await.expect("written");
    stream.shutdown().await.expect("half closed");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.expect("read");
    assert!(back == payload);
    echo.await.expect("served");

    let (_, answer) = open(&server, &format!("TCP {port}\n"), HOST).await;
    assert_eq!(
        answer,
        format!("ERR refused Nothing listens on port {port}.\n")
    );
}

#[tokio::test]
async fn a_service_on_ipv6_loopback_only_is_reached_too() {
    let server = Server::start().await;
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("not tried: this host has no IPv6");
        return;
    };
    let port = listener.local_addr().expect("an address").port();
    let (_, answer) = open(&server, &format!("TCP {port}\n"), HOST).await;
    assert_eq!(answer, "OK\n");
}

#[tokio::test]
async fn the_services_port_is_served_without_a_socket() {
    let server = Server::start().await;
    let (stream, answer) = open(&server, "TCP 49983\n", HOST).await;
    assert_eq!(answer, "OK\n");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .expect("HTTP/1.1");
    tokio::spawn(connection);
    for _ in 0..2 {
        let request = server
            .request("GET", "/health")
            .body(Full::<bytes::Bytes>::default());
        let response = sender
            .send_request(request.expect("a request"))
            .await
            .expect("a response");
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }
}
