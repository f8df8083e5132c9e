//! Wire shapes, and hostile input.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::config::DiskConfig;

fn config() -> MachineConfig {
    MachineConfig {
        vcpus: 1,
        memory_mib: 128,
        kernel: "/k".into(),
        cmdline_extra: String::new(),
        disks: vec![DiskConfig {
            id: "agent".into(),
            path: "/a".into(),
            read_only: true,
            overlay: None,
            overlay_max_bytes: None,
            snapshot: None,
        }],
        vsock: None,
        net: None,
        serial: None,
        rng: true,
        balloon: false,
    }
}

fn refusal(line: &str) -> String {
    Request::parse(line.as_bytes()).unwrap_err().to_line()
}

#[test]
fn requests_on_the_wire() {
    assert_snapshot!(Request { id: 1, op: Op::Hello }.to_line(), @r#"{"v":1,"id":1,"op":"hello"}"#);
    assert_snapshot!(Request { id: 2, op: Op::Boot(Box::new(config())) }.to_line(), @r#"{"v":1,"id":2,"op":"boot","args":{"cmdline_extra":"","disks":[{"id":"agent","path":"/a","read_only":true}],"kernel":"/k","memory_mib":128,"net":null,"rng":true,"serial":null,"vcpus":1,"vsock":null}}"#);
}

#[test]
fn every_request_round_trips() {
    fn args<T: serde::de::DeserializeOwned>(text: &str) -> Box<T> {
        Box::new(serde_json::from_str(text).unwrap())
    }
    for op in [
        Op::Snapshot(args(
            r#"{"dir":"/d","kind":"diff","sync":true,"rebase":true}"#,
        )),
        Op::Prepare(args(
            r#"{"vcpus":2,"memory_mib":128,"disks":3,"vsock":true}"#,
        )),
        Op::Restore(args(
            r#"{"dir":"/d","disks":{"o":{"overlay":"/n"}},"vsock":"/v","id":"i","tap":"t","resume":false}"#,
        )),
        Op::Stage(args(r#"{"dir":"/d"}"#)),
        Op::Rollback(args(r#"{"dir":"/d"}"#)),
        Op::Hello,
        Op::Boot(Box::new(config())),
        Op::Pause,
        Op::Resume,
        Op::Stats,
        Op::Kill,
        Op::Record,
    ] {
        let request = Request { id: 9, op };
        assert_eq!(Request::parse(request.to_line().as_bytes()), Ok(request));
    }
}

#[test]
fn refusals_on_the_wire() {
    assert_snapshot!(refusal("nonsense"), @r#"{"id":null,"error":{"code":"bad_request","message":"expected ident at line 1 column 2"}}"#);
    assert_snapshot!(refusal(r#"{"id":4,"op":"hello"}"#), @r#"{"id":4,"error":{"code":"bad_request","message":"missing field `v` at line 1 column 21"}}"#);
    assert_snapshot!(refusal(r#"{"v":2,"id":4,"op":"hello"}"#), @r#"{"id":4,"error":{"code":"bad_version","message":"protocol version 2 is not 1"}}"#);
    assert_snapshot!(refusal(r#"{"v":1,"id":4,"op":"fly"}"#), @r#"{"id":4,"error":{"code":"unknown_op","message":"there is no operation \"fly\""}}"#);
    assert_snapshot!(refusal(r#"{"v":1,"id":4,"op":"pause","args":{"x":1}}"#), @r#"{"id":4,"error":{"code":"bad_request","message":"pause takes no args"}}"#);
    assert_snapshot!(refusal(r#"{"v":1,"id":4,"op":"boot","args":{"vcpus":1}}"#), @r#"{"id":4,"error":{"code":"bad_config","message":"missing field `memory_mib`"}}"#);
}

#[test]
fn answers_on_the_wire() {
    let hello = Hello {
        version: "0.1.0".into(),
        protocol: 1,
        pid: 42,
        id: "sbx".into(),
        state: State::Idle,
    };
    assert_snapshot!(Response::ok(1, &hello).to_line(), @r#"{"id":1,"ok":{"id":"sbx","pid":42,"protocol":1,"state":"idle","version":"0.1.0"}}"#);
    let times = Timestamps {
        process_started_ns: 1,
        boot_started_ns: 2,
        vcpus_running_ns: 3,
    };
    assert_snapshot!(Response::ok(2, &Booted { times }).to_line(), @r#"{"id":2,"ok":{"times":{"boot_started_ns":2,"process_started_ns":1,"vcpus_running_ns":3}}}"#);
    assert_snapshot!(Response::done(3).to_line(), @r#"{"id":3,"ok":{}}"#);
    let mut stats = Stats {
        state: State::Running,
        memory_mib: 128,
        times,
        ..Stats::default()
    };
    stats
        .devices
        .insert("rng".into(), BTreeMap::from([("bytes".into(), 64)]));
    assert_snapshot!(Response::ok(4, &stats).to_line(), @r#"{"id":4,"ok":{"devices":{"rng":{"bytes":64}},"memory_mib":128,"overhead_kib":0,"rss_kib":0,"state":"running","times":{"boot_started_ns":2,"process_started_ns":1,"vcpus_running_ns":3},"uptime_ms":0,"vcpu_exits":{"interrupted":0,"mmio_read":0,"mmio_write":0,"pio_read":0,"pio_write":0}}}"#);
}

#[test]
fn events_on_the_wire() {
    let event = Event::Exited {
        reason: ExitReason::GuestPanic,
        detail: "Kernel panic: x".into(),
    };
    assert_snapshot!(event.to_line(), @r#"{"event":"exited","reason":"guest_panic","detail":"Kernel panic: x"}"#);
    let parsed = ServerLine::parse(event.to_line().as_bytes()).unwrap();
    assert_eq!(parsed, ServerLine::Event(event));
}

#[test]
fn answers_are_told_from_events() {
    let answer = Response::done(3);
    let parsed = ServerLine::parse(answer.to_line().as_bytes()).unwrap();
    assert_eq!(parsed, ServerLine::Response(answer));
    assert!(ServerLine::parse(br#"{"event":"born"}"#).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_in_one_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(answer) = Request::parse(&bytes) {
            let line = answer.to_line();
            prop_assert_eq!(line.matches('\n').count(), 1);
        }
    }

    #[test]
    fn any_member_values_are_read_or_refused(v in any::<u32>(), id in any::<u64>(), op in "[a-z]{0,9}", args in "(null|\\{\\}|[1-9][0-9]{0,3}|\"x\")") {
        let line = format!(r#"{{"v":{v},"id":{id},"op":"{op}","args":{args}}}"#);
        match Request::parse(line.as_bytes()) {
            Ok(request) => prop_assert_eq!(request.id, id),
            Err(answer) => prop_assert_eq!(answer.id, Some(id)),
        }
    }
}
