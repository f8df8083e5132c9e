//! Start, List, Connect, SendSignal: how processes begin, speak and end.

mod common;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{EXTRA_GID, Item, PATIENCE, Server, USER_ID, eventually, is_alive};
use http::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn a_command_starts_speaks_and_ends() {
    let server = Server::start().await;
    let mut events = server
        .shell("printf out; sleep 0.1; printf err >&2; sleep 0.1; exit 3")
        .await;
    let mut seen = Vec::new();
    loop {
        match events.next().await {
            Item::Event(mut event) => {
                if let Some(pid) = event.pointer_mut("/start/pid") {
                    assert!(pid.as_u64().is_some_and(|pid| pid > 1));
                    *pid = json!("<pid>");
                }
                seen.push(event.to_string());
            }
            Item::End(code, _) => {
                assert_eq!(code, None);
                break;
            }
        }
    }
    insta::assert_snapshot!(seen.join("\n"), @r#"
    {"start":{"pid":"<pid>"}}
    {"data":{"stdout":"b3V0"}}
    {"data":{"stderr":"ZXJy"}}
    {"end":{"error":"exit status 3","exitCode":3,"exited":true,"status":"exit status 3"}}
    "#);
    assert_eq!(server.list().await, Vec::<u64>::new());
}

#[tokio::test]
async fn success_has_no_error() {
    let server = Server::start().await;
    let outcome = server.shell("true").await.rest().await;
    insta::assert_snapshot!(outcome.end.expect("ended"), @r#"{"exited":true,"status":"exit status 0"}"#);
}

#[tokio::test]
async fn the_user_has_its_identity_home_and_groups() {
    let server = Server::start().await;
    let command =
        "id -u; id -g; id -G; pwd; echo $HOME $USER $LOGNAME; echo $PATH; ls /proc/self/fd | wc -l";
    let outcome = server.shell(command).await.rest().await;
    let home = server.home().display().to_string();
    let text = outcome.stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..6],
        [
            USER_ID.to_string(),
            USER_ID.to_string(),
            format!("{USER_ID} {EXTRA_GID}"),
            home.clone(),
            format!("{home} user user"),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ]
    );
    // Three streams and the directory being listed: nothing of the agent's leaks into the program.
    assert_eq!(lines[6].trim(), "4");
}

#[tokio::test]
async fn another_user_can_be_named_and_must_exist() {
    let server = Server::start().await;
    let run_as = async |user: &str| {
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:")));
        let headers = [("authorization", value.as_str())];
        server
            .shell_with("id -u; id -G", json!({}), &headers)
            .await
            .rest()
            .await
    };
    assert_eq!(run_as("root").await.stdout(), "0\n0\n");
    let outcome = run_as("root123").await;
    assert_eq!(outcome.error.as_deref(), Some("unauthenticated"));
    assert_eq!(
        outcome.message.as_deref(),
        Some("invalid username: 'root123'")
    );
}

#[tokio::test]
async fn variables_come_from_the_sandbox_and_the_call_and_stay_there() {
    let server = Server::start().await;
    server.agent().state.update(|settings| {
        settings.env = [
            ("A".to_owned(), "global".to_owned()),
            ("B".to_owned(), "global".to_owned()),
        ]
        .into();
    });
    let extra = json!({"process": {"envs": {"B": "call", "C": "call"}}});
    let outcome = server
        .shell_with("echo $A $B $C", extra, &[])
        .await
        .rest()
        .await;
    assert_eq!(outcome.stdout(), "global call call\n");
    let outcome = server.shell("echo $A $B [$C]").await.rest().await;
    assert_eq!(outcome.stdout(), "global global []\n");
}

#[tokio::test]
async fn the_working_directory_follows_the_path_rules() {
    let server = Server::start().await;
    std::fs::create_dir(server.home().join("sub")).expect("made");
    let home = server.home().display().to_string();
    for (cwd, expected) in [
        ("/", "/".to_owned()),
        ("~", home.clone()),
        ("sub", format!("{home}/sub")),
    ] {
        let extra = json!({"process": {"cwd": cwd}});
        let outcome = server.shell_with("pwd", extra, &[]).await.rest().await;
        assert_eq!(outcome.stdout().trim(), expected, "{cwd}");
    }
    for (cwd, code) in [
        ("/does/not/exist", "invalid_argument"),
        ("~root", "invalid_argument"),
        ("/root", "permission_denied"),
    ] {
        let outcome = server
            .shell_with("pwd", json!({"process": {"cwd": cwd}}), &[])
            .await
            .rest()
            .await;
        assert_eq!(
            outcome.error.as_deref(),
            Some(code),
            "{cwd}: {:?}",
            outcome.message
        );
        assert!(outcome.message.expect("a message").contains("cwd"), "{cwd}");
    }
    server
        .agent()
        .state
        .update(|settings| settings.default_workdir = Some("sub".to_owned()));
    assert_eq!(
        server.shell("pwd").await.rest().await.stdout().trim(),
        format!("{home}/sub")
    );
}

#[tokio::test]
async fn what_cannot_be_executed_is_the_callers_mistake() {
    let server = Server::start().await;
    std::fs::write(server.home().join("text"), "no program").expect("written");
    for cmd in ["/does/not/exist", "no-such-command-anywhere", "./text", ""] {
        let request = json!({"process": {"cmd": cmd}});
        let outcome = server
            .stream("process.Process/Start", request, &[])
            .await
            .rest()
            .await;
        assert_eq!(outcome.error.as_deref(), Some("invalid_argument"), "{cmd}");
        assert_eq!(outcome.pid, None);
    }
    let outcome = server
        .stream("process.Process/Start", json!({}), &[])
        .await
        .rest()
        .await;
    assert_eq!(outcome.error.as_deref(), Some("invalid_argument"));
}

#[tokio::test]
async fn a_bare_command_is_found_and_unknown_members_are_ignored() {
    let server = Server::start().await;
    let request = json!({
        "process": {"cmd": "echo", "args": ["hi"], "future": [1, {"x": 2}]}, "stdin": false, "later": null,
    });
    let outcome = server
        .stream("process.Process/Start", request, &[])
        .await
        .rest()
        .await;
    assert_eq!(outcome.stdout(), "hi\n");
}

#[tokio::test]
async fn list_shows_what_runs_and_kill_ends_the_whole_group() {
    let server = Server::start().await;
    let extra = json!({"tag": "mine"});
    let mut events = server
        .shell_with("sleep 100 & echo $!; wait", extra, &[])
        .await;
    let pid = events.pid().await;
    let child: u64 = events.until("\n").await.trim().parse().expect("a pid");
    let (_, body) = server.unary("process.Process/List", json!({})).await;
    assert_eq!(
        body,
        json!({"processes": [{
            "pid": pid, "tag": "mine",
            "config": {"cmd": "/bin/sh", "args": ["-c", "sleep 100 & echo $!; wait"]},
        }]})
    );
    assert_eq!(server.kill(pid).await, (StatusCode::OK, json!({})));
    let outcome = events.rest().await;
    assert_eq!(
        outcome.end,
        Some(json!({"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}))
    );
    assert_eq!(server.list().await, Vec::<u64>::new());
    let (status, body) = server.kill(pid).await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::NOT_FOUND, Some("not_found"))
    );
    eventually("the end of the group", async || !is_alive(child)).await;
}

#[tokio::test]
async fn signals_are_chosen_by_name_and_processes_by_tag() {
    let server = Server::start().await;
    let command = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut events = server.shell_with(command, json!({"tag": "t"}), &[]).await;
    events.until("ready").await;
    let send = async |selector: Value, signal: &str| {
        let body = json!({"process": selector, "signal": signal});
        server.unary("process.Process/SendSignal", body).await
    };
    let code =
        |(status, body): (StatusCode, Value)| (status, body["code"].as_str().map(str::to_owned));
    let bad = (StatusCode::BAD_REQUEST, Some("invalid_argument".to_owned()));
    assert_eq!(
        code(send(json!({"tag": "t"}), "SIGNAL_UNSPECIFIED").await),
        bad
    );
    assert_eq!(code(send(json!({}), "SIGNAL_SIGTERM").await), bad);
    let missing = (StatusCode::NOT_FOUND, Some("not_found".to_owned()));
    assert_eq!(
        code(send(json!({"tag": "other"}), "SIGNAL_SIGTERM").await),
        missing
    );
    assert_eq!(
        send(json!({"tag": "t"}), "SIGNAL_SIGTERM").await.0,
        StatusCode::OK
    );
    let outcome = events.rest().await;
    assert_eq!(
        (outcome.stdout().as_str(), outcome.exit_code()),
        ("bye\n", 5)
    );
}

#[tokio::test]
async fn the_deadline_kills_the_group_and_ends_the_stream_with_an_error() {
    let server = Server::start().await;
    let begun = Instant::now();
    let headers = [("connect-timeout-ms", "600")];
    let mut events = server
        .shell_with("sleep 100 & echo $!; wait", json!({}), &headers)
        .await;
    let pid = events.pid().await;
    let child: u64 = events.until("\n").await.trim().parse().expect("a pid");
    let outcome = events.rest().await;
    assert_eq!(
        (outcome.error.as_deref(), outcome.end),
        (Some("deadline_exceeded"), None)
    );
    assert!(begun.elapsed() >= Duration::from_millis(600));
    assert_eq!(server.list().await, Vec::<u64>::new());
    assert!(!is_alive(pid));
    eventually("the end of the group", async || !is_alive(child)).await;
}

#[tokio::test]
async fn the_deadline_holds_after_the_client_has_gone() {
    let server = Server::start().await;
    let headers = [("connect-timeout-ms", "700")];
    let mut events = server.shell_with("sleep 100", json!({}), &headers).await;
    let pid = events.pid().await;
    drop(events);
    assert!(is_alive(pid));
    eventually("the kill", async || !is_alive(pid)).await;
}

#[tokio::test]
async fn a_client_that_goes_away_changes_nothing() {
    let server = Server::start().await;
    let mut events = server
        .shell("echo one; sleep 0.5; echo two > done; sleep 100")
        .await;
    let pid = events.pid().await;
    events.until("one").await;
    drop(events);
    let done = server.home().join("done");
    eventually("the second command", async || done.exists()).await;
    assert_eq!(server.list().await, [pid]);
    assert_eq!(server.kill(pid).await.0, StatusCode::OK);
    eventually("the end", async || server.list().await.is_empty()).await;
}

#[tokio::test]
async fn connect_tells_only_what_comes_after_it() {
    let server = Server::start().await;
    let go = server.home().join("go");
    let command = "echo before; while ! test -e go; do sleep 0.02; done; echo after; exit 4";
    let mut starter = server.shell(command).await;
    let pid = starter.pid().await;
    starter.until("before").await;
    let selector = json!({"process": {"pid": pid}});
    let mut follower = server
        .stream("process.Process/Connect", selector.clone(), &[])
        .await;
    assert_eq!(follower.pid().await, pid);
    std::fs::write(go, "").expect("written");
    let (first, second) = (starter.rest().await, follower.rest().await);
    assert_eq!(
        (first.stdout(), second.stdout()),
        ("after\n".to_owned(), "after\n".to_owned())
    );
    assert_eq!((first.exit_code(), second.exit_code()), (4, 4));

    let late = server
        .stream("process.Process/Connect", selector, &[])
        .await
        .rest()
        .await;
    assert_eq!(
        (late.pid, late.exit_code(), late.stdout.len()),
        (Some(pid), 4, 0)
    );

    let unknown = json!({"process": {"pid": 4_000_000}});
    let outcome = server
        .stream("process.Process/Connect", unknown, &[])
        .await
        .rest()
        .await;
    assert_eq!(outcome.error.as_deref(), Some("not_found"));
}

#[tokio::test]
async fn a_followers_deadline_only_ends_its_own_stream() {
    let server = Server::start().await;
    let mut starter = server.shell("sleep 100").await;
    let pid = starter.pid().await;
    let headers = [("connect-timeout-ms", "300")];
    let follower = server
        .stream(
            "process.Process/Connect",
            json!({"process": {"pid": pid}}),
            &headers,
        )
        .await
        .rest()
        .await;
    assert_eq!(
        (follower.error.as_deref(), follower.end),
        (Some("deadline_exceeded"), None)
    );
    assert_eq!(server.list().await, [pid]);
    server.kill(pid).await;
    assert_eq!(starter.rest().await.exit_code(), -1);
}

#[tokio::test]
async fn grandchildren_hold_up_nothing_and_live_on() {
    let server = Server::start().await;
    let begun = Instant::now();
    // The grandchild leaves the group, keeps both pipes and goes on writing into them.
    let command = "setsid sh -c 'echo $$; sleep 0.3; echo more; echo more >&2; echo done > done; sleep 100' & sleep 0.1";
    let outcome = server.shell(command).await.rest().await;
    assert_eq!(outcome.exit_code(), 0);
    assert!(
        begun.elapsed() < PATIENCE,
        "the end did not wait for the grandchild"
    );
    let grandchild: u64 = outcome.stdout().trim().parse().expect("a pid");
    let done = server.home().join("done");
    eventually("life after the parent", async || done.exists()).await;
    assert!(is_alive(grandchild));
    let pid =
        rustix::process::Pid::from_raw(i32::try_from(grandchild).expect("a pid")).expect("a pid");
    rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).expect("killed");
}

#[tokio::test]
async fn an_idle_stream_is_kept_alive() {
    let server = Server::start().await;
    let headers = [("keepalive-ping-interval", "1")];
    let outcome = server
        .shell_with("sleep 2.5", json!({}), &headers)
        .await
        .rest()
        .await;
    assert_eq!(outcome.exit_code(), 0);
    assert!(
        (1..=3).contains(&outcome.keepalives),
        "{}",
        outcome.keepalives
    );
}

#[tokio::test]
async fn a_flood_arrives_whole_and_in_order_at_a_slow_reader() {
    let server = Server::start().await;
    let mut events = server.shell("seq 1 300000; echo end >&2").await;
    events.pid().await;
    // The reader sleeps while the queue and the sockets fill up.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let outcome = events.rest().await;
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(outcome.stdout.len(), expected.len());
    assert!(outcome.stdout == expected.as_bytes(), "in order");
    assert_eq!(outcome.stderr, b"end\n");
    assert!(
        outcome.longest_chunk <= 32 << 10,
        "{}",
        outcome.longest_chunk
    );
}

#[tokio::test]
async fn a_follower_that_takes_nothing_does_not_stop_the_list() {
    let server = Server::start().await;
    let mut events = server.shell("yes").await;
    let pid = events.pid().await;
    // Nobody reads; `yes` fills every buffer on the way.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.list().await, [pid]);
    assert_eq!(server.kill(pid).await.0, StatusCode::OK);
    eventually("the end in List", async || server.list().await.is_empty()).await;
    drop(events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_exit_is_missed_among_many() {
    let server = std::sync::Arc::new(Server::start().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let server = std::sync::Arc::clone(&server);
        tasks.spawn(async move {
            let outcome = server.shell(&format!("exit {}", n % 7)).await.rest().await;
            assert_eq!(outcome.exit_code(), n % 7);
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("the right exit code");
    }
    assert_eq!(server.list().await, Vec::<u64>::new());
}
