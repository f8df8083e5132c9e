//! The shipped `microvm` program with a real guest: it boots, answers over vsock, stands still, goes on, is written down,
//! goes on elsewhere, goes back, and ends.
//!
//! These tests need a KVM that runs a stock kernel, and the artefacts that the daemon is given, by the same variables:
//! `SANDBOXD_KERNEL`, `SANDBOXD_AGENT_DISK`, `SANDBOXD_OVERLAY_BASE`, `SANDBOXD_TEMPLATES`. Where something is missing each
//! test prints what and passes, unless `SANDBOXD_REQUIRE_GUEST=1` says that nothing may be missing here.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use vmm::control::{
    Booted, ClientError, ErrorCode, Event, ExitReason, Op, Ready, Recorded, RestoreArgs, Restored,
    RollbackArgs, StageArgs, State, Stats,
};
use vmm::machine::Shape;
use vmm::snapshot::Kind;

use self::common::{Artifacts, Guest, PATIENCE, run, running, snapshot, write};

#[test]
fn a_guest_boots_answers_stands_still_and_goes_on() {
    let Some(artifacts) = Artifacts::find() else {
        return;
    };
    let mut guest = Guest::start();
    let mut control = guest.client();
    let boot = Op::Boot(Box::new(guest.config(&artifacts, "")));
    let booted: Booted = control.call(boot).expect("it boots");
    assert!(booted.times.vcpus_running_ns >= booted.times.boot_started_ns);

    let mut agent = guest.agent();
    let answer = agent.hello(1).expect("an answer");
    assert!(
        answer.contains("\"id\":1") && answer.contains("\"ok\""),
        "{answer}"
    );

    control.order(Op::Pause).expect("it stands still");
    control.order(Op::Pause).expect("it still stands still");
    let before: Stats = control.call(Op::Stats).expect("an answer");
    assert_eq!((before.state, before.memory_mib), (State::Paused, 256));
    agent.send("{\"id\":2,\"op\":\"hello\",\"args\":{}}\n");
    let silence = agent
        .0
        .get_ref()
        .set_read_timeout(Some(Duration::from_millis(700)));
    silence.expect("a timeout");
    assert_eq!(
        agent.line(),
        None,
        "a guest that stands still does not answer"
    );
    agent
        .0
        .get_ref()
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout");

    control.order(Op::Resume).expect("it goes on");
    let answer = agent.line().expect("the answer that was waited for");
    assert!(answer.contains("\"id\":2"), "{answer}");
    let after: Stats = control.call(Op::Stats).expect("an answer");
    assert_eq!(after.state, State::Running);
    for device in [
        "disk-agent",
        "disk-rootfs",
        "disk-overlay",
        "vsock",
        "rng",
        "serial",
        "bus",
    ] {
        assert!(after.devices.contains_key(device), "{device}");
    }
    println!("overhead {} KiB, stats {after:?}", after.overhead_kib);

    control.order(Op::Kill).expect("an answer");
    let Event::Exited { reason, .. } = control.next_event().expect("an event");
    assert_eq!(reason, ExitReason::Killed);
    assert_eq!(guest.wait().code(), Some(0));
    assert!(!guest.path("control.sock").exists() && !guest.path("vsock.sock").exists());
}

#[test]
fn a_guest_that_panics_is_reported_with_its_words() {
    let Some(artifacts) = Artifacts::find() else {
        return;
    };
    let mut guest = Guest::start();
    let mut control = guest.client();
    // A chatty kernel also fills the bounded serial log many times over.
    let config = guest.config(&artifacts, "init=/nonexistent ignore_loglevel");
    control
        .call::<Booted>(Op::Boot(Box::new(config)))
        .expect("it boots");
    let Event::Exited { reason, detail } = control.next_event().expect("an event");
    assert_eq!(reason, ExitReason::GuestPanic);
    assert!(
        detail.contains("Requested init /nonexistent failed"),
        "{detail}"
    );
    assert_eq!(guest.wait().code(), Some(3));
    let serial = std::fs::read_to_string(guest.path("serial.log")).expect("a log");
    assert!(serial.len() <= 4096, "{}", serial.len());
    assert!(serial.contains("Kernel panic"), "the newest output is kept");
}

#[test]
fn many_pauses_do_not_disturb_a_guest() {
    let Some(artifacts) = Artifacts::find() else {
        return;
    };
    let guest = Guest::start();
    let mut control = guest.client();
    let boot = Op::Boot(Box::new(guest.config(&artifacts, "")));
    control.call::<Booted>(boot).expect("it boots");
    for _ in 0..50 {
        control.order(Op::Pause).expect("it stands still");
        control.order(Op::Resume).expect("it goes on");
    }
    let answer = guest.agent().hello(1).expect("an answer");
    assert!(answer.contains("\"ok\""), "{answer}");
}

#[test]
fn a_guest_goes_on_in_another_process_as_often_as_one_likes() {
    let Some(artifacts) = Artifacts::find() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("snap");
    let (first, mut control) = running(&artifacts);
    assert_eq!(run(&first, "echo one > /root/f; cat /root/f"), "one\n");
    let written = snapshot(&mut control, &dir, Kind::Full);
    assert_eq!((written.kind, written.memory_layers), (Kind::Full, 1));
    assert_eq!(run(&first, "cat /root/f"), "one\n", "the first goes on");
    drop(first);

    let mut ids = std::collections::BTreeSet::new();
    for round in 0..6 {
        let clone = Guest::start();
        let mut control = clone.client();
        let mut args = clone.restore(&dir);
        args.verify = round == 0;
        args.record = round == 1;
        if round > 0 {
            clone.prepare(&artifacts, &mut control);
        }
        if round > 3 {
            let stage = Op::Stage(Box::new(StageArgs { dir: dir.clone() }));
            let ready: Ready = control.call(stage).expect("it is staged");
            println!("round {round}: staged {:?}", ready.stages);
        }
        let restored = control.call(Op::Restore(Box::new(args)));
        let restored: Restored = restored.expect("it is restored");
        assert_eq!(restored.id, written.id);
        let laid = restored.stages.0.iter().any(|(name, _)| name == "memory");
        assert_eq!(laid, round <= 3, "what was staged is not done again");
        let printed = run(
            &clone,
            "cat /root/f /proc/sys/kernel/random/uuid; echo two > /root/f",
        );
        let (file, random) = printed.split_once('\n').expect("two lines");
        assert_eq!(file, "one");
        assert!(ids.insert(random.to_owned()), "random numbers repeat");
        if round == 1 {
            let recorded: Recorded = control.call(Op::Record).expect("it is noted");
            assert!(recorded.written_bytes > 0);
        }
        println!("round {round}: {:?}", restored.stages);
    }
}

#[test]
fn a_chain_of_diffs_is_a_full_copy_and_each_link_can_be_gone_back_to() {
    let Some(artifacts) = Artifacts::find() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let (guest, mut control) = running(&artifacts);
    for (name, kind) in [("1", Kind::Full), ("2", Kind::Diff), ("3", Kind::Diff)] {
        let command =
            format!("echo {name} > /root/f; head -c 3000000 /dev/urandom > /dev/shm/x; sync");
        run(&guest, &command);
        let written = snapshot(&mut control, &path(name), kind);
        assert_eq!(written.kind, kind);
    }
    // The machine stands still between these two, and devices have had time to end what host processes began: so both are of
    // the same instant.
    control.order(Op::Pause).expect("it stands still");
    std::thread::sleep(Duration::from_secs(1));
    let mut contents = Vec::new();
    for (name, kind) in [("diff", Kind::Diff), ("full", Kind::Full)] {
        assert_eq!(write(&mut control, &path(name), kind, false).kind, kind);
        let clone = Guest::start();
        let mut args = clone.restore(&path(name));
        (args.resume, args.verify) = (false, true);
        let mut other = clone.client();
        let restore = Op::Restore(Box::new(args));
        other.call::<Restored>(restore).expect("it is restored");
        let copy = format!("copy-{name}");
        write(&mut other, &path(&copy), Kind::Full, false);
        let mut bytes = std::fs::read(path(&copy).join("memory.0")).expect("memory");
        // Every restore has a generation id of its own.
        bytes[0xf_f000..0x10_0000].fill(0);
        contents.push(bytes);
    }
    let pages = contents[0].chunks(4096).zip(contents[1].chunks(4096));
    let differ: Vec<usize> = (0..)
        .zip(pages)
        .filter(|(_, (diff, full))| diff != full)
        .map(|(page, _)| page)
        .collect();
    assert_eq!(differ, [0usize; 0], "pages of the chain differ");

    control.order(Op::Resume).expect("it goes on");
    let mut idle = guest.agent();
    for name in ["1", "3", "2"] {
        let args = RollbackArgs {
            dir: path(name),
            resume: true,
        };
        let back = control.call(Op::Rollback(Box::new(args)));
        let back: Restored = back.expect("it goes back");
        println!("back to {name}: {:?}", back.stages);
        assert_eq!(run(&guest, "cat /root/f"), format!("{name}\n"));
        run(&guest, "echo lost > /root/f; sync");
    }
    assert_eq!(idle.hello(1), None, "connections of before are cut");
}

#[test]
fn what_cannot_be_restored_is_refused_and_what_was_prepared_stays() {
    let Some(artifacts) = Artifacts::find() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("snap");
    let (first, mut control) = running(&artifacts);
    snapshot(&mut control, &dir, Kind::Full);
    drop(first);
    let clone = Guest::start();
    let mut control = clone.client();
    let mut config = clone.config(&artifacts, "");
    config.vcpus = 1;
    let shape = Op::Prepare(Box::new(Shape::of(&config)));
    control.call::<Ready>(shape).expect("it is prepared");
    let mut refused = |args: RestoreArgs| {
        let answer = control.call::<Restored>(Op::Restore(Box::new(args)));
        match answer {
            Err(ClientError::Refused(error)) => error.code,
            other => panic!("{other:?}"),
        }
    };
    let missing = clone.restore(&folder.path().join("none"));
    assert_eq!(refused(missing), ErrorCode::BadSnapshot);
    let mut bare = clone.restore(&dir);
    bare.vsock = None;
    assert_eq!(refused(bare), ErrorCode::BadConfig);
    let manifest = dir.join("manifest.json");
    let good = std::fs::read(&manifest).expect("a manifest");
    std::fs::remove_file(&manifest).expect("it goes");
    std::fs::write(&manifest, &good[..good.len() - 2]).expect("it is cut");
    assert_eq!(refused(clone.restore(&dir)), ErrorCode::BadSnapshot);
    std::fs::write(&manifest, good).expect("it is whole");
    let restore = Op::Restore(Box::new(clone.restore(&dir)));
    control.call::<Restored>(restore).expect("it is restored");
    assert!(clone.agent().hello(1).is_some());
}

#[test]
fn what_was_staged_is_used_only_for_its_own_snapshot() {
    let Some(artifacts) = Artifacts::find() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let (first, mut control) = running(&artifacts);
    for (name, kind) in [("1", Kind::Full), ("2", Kind::Diff), ("3", Kind::Full)] {
        run(
            &first,
            &format!("echo {name} > /dev/shm/f; echo {name} > /root/f"),
        );
        snapshot(&mut control, &path(name), kind);
    }
    drop(first);
    // Staged, asked for; before the request the folder of the last is replaced by another snapshot.
    for (staged, asked, found) in [
        ("1", "2", "2"),
        ("2", "1", "1"),
        ("2", "2", "2"),
        ("1", "3", "3"),
        ("3", "3", "1"),
    ] {
        let clone = Guest::start();
        let mut control = clone.client();
        clone.prepare(&artifacts, &mut control);
        let stage = |name: &str| Op::Stage(Box::new(StageArgs { dir: path(name) }));
        let missing = control.call::<Ready>(stage("none"));
        assert!(
            matches!(missing, Err(ClientError::Refused(error)) if error.code == ErrorCode::BadSnapshot)
        );
        control.call::<Ready>(stage(staged)).expect("it is staged");
        if asked != found {
            std::fs::remove_dir_all(path(asked)).expect("it goes");
            std::fs::rename(path(found), path(asked)).expect("another comes");
        }
        let restore = Op::Restore(Box::new(clone.restore(&path(asked))));
        control.call::<Restored>(restore).expect("it is restored");
        let printed = run(&clone, "cat /dev/shm/f /root/f");
        assert_eq!(
            printed,
            format!("{found}\n{found}\n"),
            "{staged} staged, {asked} asked for"
        );
    }
}

#[test]
fn a_host_process_that_closes_at_once_leaves_no_connection_behind() {
    let Some(artifacts) = Artifacts::find() else {
        return;
    };
    let (guest, mut control) = running(&artifacts);
    let socket = guest.path("vsock.sock");
    for round in 0..60 {
        let stream = UnixStream::connect(&socket).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut stream = BufReader::new(stream);
        let send = |stream: &mut BufReader<UnixStream>, text: &str| {
            stream
                .get_mut()
                .write_all(text.as_bytes())
                .expect("it is sent")
        };
        send(&mut stream, "CONNECT 1024\n");
        let mut line = String::new();
        // At once, after the guest has answered, and with a request on its way.
        if round % 3 > 0 {
            stream.read_line(&mut line).expect("an answer");
            assert!(line.starts_with("OK "), "{line}");
        }
        if round % 3 > 1 {
            send(
                &mut stream,
                "CONTROL\n{\"id\":1,\"op\":\"hello\",\"args\":{}}\n",
            );
        }
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats: Stats = control.call(Op::Stats).expect("an answer");
        let vsock = &stats.devices["vsock"];
        if vsock["connections"] == 0 {
            assert_eq!(vsock["timeouts"], 0, "{vsock:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{vsock:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
