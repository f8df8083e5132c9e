use proptest::prelude::*;

use super::*;

fn sample() -> Configure {
    Configure {
        sandbox_id: "i0123456789abcdefghij".into(),
        template_id: "base".into(),
        hostname: "sandbox".into(),
        access_token: Some("token".into()),
        env: [("GREETING".to_owned(), "hi".to_owned())].into(),
        default_user: "user".into(),
        default_workdir: Some("/home/user".into()),
        unix_time_ns: 1_700_000_000_000_000_000,
        network: Some(Network::standard(vec![Ipv4Addr::new(8, 8, 8, 8)])),
        limits: Limits {
            pids_max: 4096,
            memory_reserve_mib: 32,
        },
        code_interpreter: false,
        entropy: None,
    }
}

fn text(line: Result<Vec<u8>, serde_json::Error>) -> String {
    String::from_utf8(line.expect("serializable")).expect("UTF-8")
}

#[test]
fn request_lines_have_the_documented_shape() {
    insta::assert_snapshot!(
        text(Request { id: 1, call: Call::Hello }.to_line()),
        @r#"{"id":1,"op":"hello","args":{}}"#
    );
    insta::assert_snapshot!(
        text(Request { id: 2, call: Call::Configure(Box::new(sample())) }.to_line()),
        @r#"{"id":2,"op":"configure","args":{"access_token":"token","code_interpreter":false,"default_user":"user","default_workdir":"/home/user","env":{"GREETING":"hi"},"hostname":"sandbox","limits":{"memory_reserve_mib":32,"pids_max":4096},"network":{"address":"169.254.100.2","dns":["8.8.8.8"],"gateway":"169.254.100.1","mac":"06:00:a9:fe:64:01","prefix":30},"sandbox_id":"i0123456789abcdefghij","template_id":"base","unix_time_ns":1700000000000000000}}"#
    );
}

#[test]
fn freezing_says_whether_to_sync() {
    let freeze = Call::Freeze(Freeze { sync: true });
    insta::assert_snapshot!(
        text(Request { id: 3, call: freeze }.to_line()),
        @r#"{"id":3,"op":"freeze","args":{"sync":true}}"#
    );
    let thaw = Request::parse(br#"{"id":4,"op":"thaw"}"#).expect("a request");
    assert_eq!(thaw.call, Call::Thaw);
    assert!(Request::parse(br#"{"id":4,"op":"freeze"}"#).is_err());
}

#[test]
fn reply_lines_have_the_documented_shape() {
    insta::assert_snapshot!(text(Response::done(3).to_line()), @r#"{"id":3,"ok":{}}"#);
    insta::assert_snapshot!(
        text(Response::error(4, ErrorCode::Failed, "No such device.").to_line()),
        @r#"{"id":4,"error":{"code":"failed","message":"No such device."}}"#
    );
    let hello = HelloReply {
        protocol: 1,
        agent_version: "0.1.0".into(),
        boot_id: "b".into(),
        uptime_ms: 5,
    };
    insta::assert_snapshot!(
        text(Response::ok(5, &hello).expect("serializable").to_line()),
        @r#"{"id":5,"ok":{"agent_version":"0.1.0","boot_id":"b","protocol":1,"uptime_ms":5}}"#
    );
}

#[test]
fn metrics_have_the_members_of_envd() {
    insta::assert_snapshot!(
        serde_json::to_string(&Metrics::default()).expect("serializable"),
        @r#"{"ts":0,"cpu_count":0,"cpu_used_pct":0.0,"mem_total":0,"mem_used":0,"mem_cache":0,"mem_total_mib":0,"mem_used_mib":0,"disk_used":0,"disk_total":0}"#
    );
}

#[test]
fn absent_args_are_an_empty_object() {
    let request = Request::parse(br#"{"id":9,"op":"sync"}"#).expect("a request");
    assert_eq!(
        request,
        Request {
            id: 9,
            call: Call::Sync
        }
    );
}

#[test]
fn refusals_name_the_reason_and_keep_the_id() {
    let refuse = |line: &str| {
        let error = Request::parse(line.as_bytes()).expect_err("refused");
        text(error.to_response().to_line())
    };
    insta::assert_snapshot!(
        refuse(r#"{"id":7,"op":"format","args":{}}"#),
        @r#"{"id":7,"error":{"code":"unknown_op","message":"The operation `format` does not exist."}}"#
    );
    insta::assert_snapshot!(
        refuse(r#"{"id":8,"op":"hello","args":{"x":1}}"#),
        @r#"{"id":8,"error":{"code":"bad_args","message":"The arguments of `hello` are not usable: unknown field `x`, there are no fields."}}"#
    );
    assert!(refuse("nonsense").starts_with(r#"{"id":0,"error":{"code":"bad_request""#));
    assert!(refuse(r#"{"id":1,"op":"hello","args":{},"extra":1}"#).contains("bad_request"));
}

#[test]
fn a_reply_with_both_or_neither_outcome_is_malformed() {
    for line in [
        r#"{"id":1}"#,
        r#"{"id":1,"ok":{},"error":{"code":"failed","message":""}}"#,
    ] {
        assert!(
            matches!(
                Response::parse(line.as_bytes()),
                Err(ResponseError::Malformed)
            ),
            "{line}"
        );
    }
}

fn configure_strategy() -> impl Strategy<Value = Configure> {
    let network = (
        any::<[u8; 4]>(),
        1u8..=32,
        any::<[u8; 4]>(),
        any::<Option<[u8; 6]>>(),
        proptest::collection::btree_map(".{0,8}", any::<std::net::Ipv4Addr>(), 0..3),
    )
        .prop_map(|(address, prefix, gateway, mac, hosts)| Network {
            address: address.into(),
            prefix,
            gateway: gateway.into(),
            mac: mac.map(crate::net::format_mac),
            dns: vec![gateway.into()],
            hosts,
        });
    (
        (
            ".{0,20}",
            ".{0,20}",
            ".{0,20}",
            proptest::option::of(".{0,20}"),
        ),
        proptest::collection::btree_map(".{0,8}", ".{0,20}", 0..4),
        (
            proptest::option::of(".{0,20}"),
            any::<u64>(),
            proptest::option::of(network),
        ),
        (
            any::<u64>(),
            any::<u64>(),
            any::<bool>(),
            proptest::option::of("[A-Za-z0-9+/]{0,16}"),
        ),
    )
        .prop_map(|(names, env, middle, tail)| Configure {
            sandbox_id: names.0,
            template_id: names.1,
            hostname: names.2,
            access_token: names.3,
            env,
            default_user: "user".into(),
            default_workdir: middle.0,
            unix_time_ns: middle.1,
            network: middle.2,
            limits: Limits {
                pids_max: tail.0,
                memory_reserve_mib: tail.1,
            },
            code_interpreter: tail.2,
            entropy: tail.3,
        })
}

proptest! {
    #[test]
    fn requests_round_trip(id: u64, configure in configure_strategy()) {
        let request = Request { id, call: Call::Configure(Box::new(configure)) };
        let line = request.to_line().expect("serializable");
        prop_assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        prop_assert_eq!(Request::parse(&line).expect("a request"), request);
    }

    #[test]
    fn parsers_never_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::parse(&line);
        let _ = Response::parse(&line);
    }
}
