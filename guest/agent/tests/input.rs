//! Standard input and terminals: SendInput, StreamInput, CloseStdin, Update.

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Envelopes, Events, Server, envelope};
use http::StatusCode;
use http_body_util::Full;
use serde_json::{Value, json};

async fn cat(server: &Server) -> (Events, u64) {
    // No `stdin` member: absent means that there is input.
    let request = json!({"process": {"cmd": "/bin/cat"}});
    let mut events = server.stream("process.Process/Start", request, &[]).await;
    let pid = events.pid().await;
    (events, pid)
}

fn code(reply: &(StatusCode, Value)) -> (StatusCode, Option<&str>) {
    (reply.0, reply.1["code"].as_str())
}

#[tokio::test]
async fn input_is_written_and_closing_it_ends_the_reader() {
    let server = Server::start().await;
    let (mut events, pid) = cat(&server).await;
    assert_eq!(
        server.input(pid, "stdin", b"one\n").await,
        (StatusCode::OK, json!({}))
    );
    events.until("one\n").await;
    server.input(pid, "stdin", b"two").await;
    let close = || {
        server.unary(
            "process.Process/CloseStdin",
            json!({"process": {"pid": pid}}),
        )
    };
    assert_eq!(close().await, (StatusCode::OK, json!({})));
    let outcome = events.rest().await;
    assert_eq!((outcome.stdout().as_str(), outcome.exit_code()), ("two", 0));
    assert_eq!(
        code(&close().await),
        (StatusCode::NOT_FOUND, Some("not_found"))
    );
}

#[tokio::test]
async fn closing_twice_is_no_error_and_writing_after_it_is_one() {
    let server = Server::start().await;
    let mut events = server
        .shell_with("cat; sleep 100", json!({"stdin": true}), &[])
        .await;
    let pid = events.pid().await;
    for _ in 0..2 {
        let closed = server
            .unary(
                "process.Process/CloseStdin",
                json!({"process": {"pid": pid}}),
            )
            .await;
        assert_eq!(closed.0, StatusCode::OK);
    }
    let refused = server.input(pid, "stdin", b"x").await;
    assert_eq!(
        code(&refused),
        (StatusCode::BAD_REQUEST, Some("failed_precondition"))
    );
    server.kill(pid).await;
    events.rest().await;
}

#[tokio::test]
async fn without_input_a_program_reads_nothing_and_takes_nothing() {
    let server = Server::start().await;
    let outcome = server.shell("cat; echo end").await.rest().await;
    assert_eq!(outcome.stdout(), "end\n");

    let mut events = server.shell("sleep 100").await;
    let pid = events.pid().await;
    for kind in ["stdin", "pty"] {
        let refused = server.input(pid, kind, b"x").await;
        assert_eq!(
            code(&refused),
            (StatusCode::BAD_REQUEST, Some("failed_precondition")),
            "{kind}"
        );
    }
    let empty = server
        .unary(
            "process.Process/SendInput",
            json!({"process": {"pid": pid}}),
        )
        .await;
    assert_eq!(
        code(&empty),
        (StatusCode::BAD_REQUEST, Some("invalid_argument"))
    );
    server.kill(pid).await;
    events.rest().await;
}

#[tokio::test]
async fn more_input_than_a_pipe_holds_arrives_whole() {
    let server = Server::start().await;
    let mut events = server
        .shell_with("sleep 0.2; wc -c", json!({"stdin": true}), &[])
        .await;
    let pid = events.pid().await;
    let bytes = vec![b'x'; 3 << 20];
    assert_eq!(server.input(pid, "stdin", &bytes).await.0, StatusCode::OK);
    server
        .unary(
            "process.Process/CloseStdin",
            json!({"process": {"pid": pid}}),
        )
        .await;
    assert_eq!(events.rest().await.stdout().trim(), bytes.len().to_string());
}

async fn stream_input(server: &Server, messages: &[Value]) -> (Option<Value>, Value) {
    let body: Vec<u8> = messages
        .iter()
        .flat_map(|message| envelope(0, message.to_string().as_bytes()))
        .collect();
    let request = server
        .request("POST", "/process.Process/StreamInput")
        .header("content-type", "application/connect+json")
        .header("connect-protocol-version", "1")
        .body(Full::from(body))
        .expect("a request");
    let mut envelopes = Envelopes::new(server.send(request).await.into_body());
    let (mut message, mut end) = (None, Value::Null);
    while let Some((flags, payload)) = envelopes.next().await {
        let value = serde_json::from_slice(&payload).expect("JSON");
        if flags == 2 {
            end = value
        } else {
            message = Some(value)
        }
    }
    (message, end)
}

#[tokio::test]
async fn a_stream_of_input_is_one_start_and_then_data() {
    let server = Server::start().await;
    let (events, pid) = cat(&server).await;
    let data = |text: &str| json!({"data": {"input": {"stdin": STANDARD.encode(text)}}});
    let start = json!({"start": {"process": {"pid": pid}}});
    let messages = [
        start.clone(),
        data("a"),
        json!({"keepalive": {}}),
        data("b\n"),
    ];
    assert_eq!(
        stream_input(&server, &messages).await,
        (Some(json!({})), json!({}))
    );

    let (message, end) = stream_input(&server, &[data("c")]).await;
    assert_eq!(
        (message, end["error"]["code"].as_str()),
        (None, Some("invalid_argument"))
    );
    let (_, end) = stream_input(&server, &[start.clone(), start]).await;
    assert_eq!(end["error"]["code"].as_str(), Some("invalid_argument"));
    let (_, end) = stream_input(
        &server,
        &[json!({"start": {"process": {"pid": 4_000_000}}})],
    )
    .await;
    assert_eq!(end["error"]["code"].as_str(), Some("not_found"));

    server
        .unary(
            "process.Process/CloseStdin",
            json!({"process": {"pid": pid}}),
        )
        .await;
    assert_eq!(events.rest().await.stdout(), "ab\n");
}

#[tokio::test]
async fn a_terminal_has_a_size_an_owner_and_a_shell_that_ends() {
    let server = Server::start().await;
    let request = json!({
        "process": {"cmd": "/bin/sh", "args": ["-i"], "envs": {"TERM": "dumb", "PS1": ""}},
        "pty": {"size": {"cols": 90, "rows": 31}},
    });
    let mut events = server.stream("process.Process/Start", request, &[]).await;
    let pid = events.pid().await;
    let send = |text: &'static str| server.input(pid, "pty", text.as_bytes());
    assert_eq!(
        send("stty size; echo o=$(stat -c %u $(tty))\n").await.0,
        StatusCode::OK
    );
    // The terminal echoes the command itself; only its output holds the number.
    let seen = events.until(&format!("o={}", common::USER_ID)).await;
    assert!(seen.contains("31 90"), "{seen:?}");

    let resize = json!({"process": {"pid": pid}, "pty": {"size": {"cols": 120, "rows": 40}}});
    assert_eq!(
        server.unary("process.Process/Update", resize).await,
        (StatusCode::OK, json!({}))
    );
    send("stty size; id -u; test -t 2 && echo 'a terminal'\n").await;
    let seen = events.until("a terminal\r\n").await;
    assert!(seen.contains("40 120"), "{seen:?}");
    assert!(seen.contains(&common::USER_ID.to_string()), "{seen:?}");

    for refused in [
        server
            .unary(
                "process.Process/CloseStdin",
                json!({"process": {"pid": pid}}),
            )
            .await,
        server.input(pid, "stdin", b"x").await,
    ] {
        assert_eq!(
            code(&refused),
            (StatusCode::BAD_REQUEST, Some("failed_precondition"))
        );
    }
    send("exit 6\n").await;
    let outcome = events.rest().await;
    assert_eq!(outcome.exit_code(), 6);
    assert!(
        outcome.stdout.is_empty() && outcome.stderr.is_empty(),
        "all output is the terminal's"
    );
}

#[tokio::test]
async fn the_last_words_on_a_terminal_are_heard() {
    let server = Server::start().await;
    for n in 0..20 {
        let command = format!("echo first; exec printf last{n}");
        let outcome = server
            .shell_with(&command, json!({"pty": {}}), &[])
            .await
            .rest()
            .await;
        let text = String::from_utf8_lossy(&outcome.pty).into_owned();
        assert_eq!(text, format!("first\r\nlast{n}"));
        assert!(outcome.longest_chunk <= 16 << 10);
    }
}

#[tokio::test]
async fn ctrl_c_reaches_the_program_in_the_terminal() {
    let server = Server::start().await;
    let mut events = server
        .shell_with("echo ready; exec sleep 100", json!({"pty": {}}), &[])
        .await;
    let pid = events.pid().await;
    events.until("ready").await;
    server.input(pid, "pty", b"\x03").await;
    let outcome = events.rest().await;
    assert_eq!(outcome.end.expect("ended")["status"], "signal: interrupt");
}

#[tokio::test]
async fn only_a_terminal_has_a_size() {
    let server = Server::start().await;
    let mut events = server.shell("sleep 100").await;
    let pid = events.pid().await;
    let resize = json!({"process": {"pid": pid}, "pty": {"size": {"cols": 1, "rows": 1}}});
    let refused = server.unary("process.Process/Update", resize).await;
    assert_eq!(
        code(&refused),
        (StatusCode::BAD_REQUEST, Some("failed_precondition"))
    );
    server.kill(pid).await;
    events.rest().await;
}
