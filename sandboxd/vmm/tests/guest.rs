//! The shipped `microvm` program with a real guest: it boots, answers over vsock, stands still, goes on, is written down,
//! goes on elsewhere, goes back, and ends.
//!
//! These tests need a KVM that runs a stock kernel, and the artefacts that the daemon is given, by the same variables:
//! `SANDBOXD_KERNEL`, `SANDBOXD_AGENT_DISK`, `SANDBOXD_OVERLAY_BASE`, `SANDBOXD_TEMPLATES`. Where something is missing each
//! test prints what and passes, unless `SANDBOXD_REQUIRE_GUEST=1` says that nothing may be missing here.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use vmm::config::{DiskConfig, MachineConfig, SerialConfig, VsockConfig};
use vmm::control::{
    Booted, Client, ClientError, DiskOverride, ErrorCode, Event, ExitReason, Op, Ready, Recorded,
    RestoreArgs, Restored, RollbackArgs, SnapshotArgs, Snapshotted, State, Stats,
};
use vmm::machine::Shape;
use vmm::snapshot::Kind;

/// How long anything may take: emulated hosts are slow.
const PATIENCE: Duration = Duration::from_secs(120);
const AGENT_PORT: u32 = 1024;

/// What a guest is made of.
struct Artifacts {
    kernel: PathBuf,
    agent_disk: PathBuf,
    overlay_base: PathBuf,
    rootfs: PathBuf,
}

impl Artifacts {
    fn find() -> Option<Self> {
        let missing = |what: String| {
            let required = std::env::var_os("SANDBOXD_REQUIRE_GUEST").is_some_and(|v| v == "1");
            assert!(!required, "{what}");
            println!("not run: {what}");
        };
        let get = |name: &str| match std::env::var_os(name) {
            Some(path) => Some(PathBuf::from(path)),
            None => {
                missing(format!("{name} is not set"));
                None
            }
        };
        let found = Self {
            kernel: get("SANDBOXD_KERNEL")?,
            agent_disk: get("SANDBOXD_AGENT_DISK")?,
            overlay_base: get("SANDBOXD_OVERLAY_BASE")?,
            rootfs: get("SANDBOXD_TEMPLATES")?.join("base/rootfs.erofs"),
        };
        if let Err(error) = kvm_ioctls::Kvm::new() {
            missing(format!("/dev/kvm cannot be opened: {error}"));
            return None;
        }
        Some(found)
    }
}

struct Guest {
    child: Child,
    dir: tempfile::TempDir,
}

impl Guest {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let child = Command::new(env!("CARGO_BIN_EXE_microvm"))
            .args(["--id", "guest-test", "--log-level", "warn", "--control"])
            .arg(dir.path().join("control.sock"))
            .stdin(Stdio::null())
            .spawn()
            .expect("the program starts");
        let guest = Self { child, dir };
        let deadline = Instant::now() + PATIENCE;
        while !guest.path("control.sock").exists() {
            assert!(Instant::now() < deadline, "the control socket appears");
            std::thread::sleep(Duration::from_millis(5));
        }
        guest
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn client(&self) -> Client {
        Client::connect(&self.path("control.sock"), PATIENCE).expect("a connection")
    }

    fn config(&self, artifacts: &Artifacts, extra: &str) -> MachineConfig {
        let disk = |id: &str, path: &Path, overlay: Option<PathBuf>| DiskConfig {
            id: id.into(),
            path: path.into(),
            read_only: overlay.is_none(),
            overlay,
            overlay_max_bytes: None,
            snapshot: None,
        };
        MachineConfig {
            vcpus: 2,
            memory_mib: 256,
            kernel: artifacts.kernel.clone(),
            cmdline_extra: extra.into(),
            disks: vec![
                disk("agent", &artifacts.agent_disk, None),
                disk("rootfs", &artifacts.rootfs, None),
                disk(
                    "overlay",
                    &artifacts.overlay_base,
                    Some(self.path("overlay.cow")),
                ),
            ],
            vsock: Some(VsockConfig {
                guest_cid: 3,
                uds_path: self.path("vsock.sock"),
            }),
            net: None,
            serial: Some(SerialConfig {
                path: self.path("serial.log"),
                max_bytes: 4096,
            }),
            rng: true,
            balloon: true,
        }
    }

    /// What a clone of the snapshot in `dir` has of its own.
    fn restore(&self, dir: &Path) -> RestoreArgs {
        let overlay = DiskOverride {
            overlay: Some(self.path("overlay.cow")),
            ..DiskOverride::default()
        };
        RestoreArgs {
            dir: dir.to_owned(),
            disks: [("overlay".to_owned(), overlay)].into(),
            vsock: Some(self.path("vsock.sock")),
            id: None,
            tap: None,
            serial: Some(SerialConfig {
                path: self.path("serial.log"),
                max_bytes: 4096,
            }),
            resume: true,
            verify: false,
            record: false,
        }
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the process ends");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Connects to the agent's control port; waits for the guest to listen.
    fn agent(&self) -> Agent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(agent) = Agent::connect(&self.path("vsock.sock")) {
                return agent;
            }
            let serial = std::fs::read_to_string(self.path("serial.log")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "the agent answers; the console says: {serial}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A control connection to the guest's agent.
struct Agent(BufReader<UnixStream>);

impl Agent {
    fn connect(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut agent = Self(BufReader::new(stream));
        agent.send(&format!("CONNECT {AGENT_PORT}\n"));
        if !agent.line()?.starts_with("OK ") {
            return None;
        }
        agent.send("CONTROL\n");
        (agent.line()? == "OK").then_some(agent)
    }

    fn send(&mut self, text: &str) {
        let _ = self.0.get_mut().write_all(text.as_bytes());
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let len = (&mut self.0).take(1 << 16).read_line(&mut line).ok()?;
        (len > 0).then(|| line.trim_end().to_owned())
    }

    fn hello(&mut self, id: u64) -> Option<String> {
        self.send(&format!("{{\"id\":{id},\"op\":\"hello\",\"args\":{{}}}}\n"));
        self.line()
    }
}

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

/// Runs `command` in the guest through the agent's process service; returns what it printed.
fn run(guest: &Guest, command: &str) -> String {
    let stream = UnixStream::connect(guest.path("vsock.sock")).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut agent = Agent(BufReader::new(stream));
    agent.send(&format!("CONNECT {AGENT_PORT}\n"));
    assert!(agent.line().is_some_and(|line| line.starts_with("OK ")));
    agent.send("TCP 49983\n");
    assert_eq!(agent.line().as_deref(), Some("OK"));
    let body =
        serde_json::json!({"process": {"cmd": "/bin/sh", "args": ["-c", command]}}).to_string();
    let len = u32::try_from(body.len())
        .expect("a short body")
        .to_be_bytes();
    // `Authorization: Basic` of root without a password.
    let head = format!(
        "POST /process.Process/Start HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic cm9vdDo=\r\n\
         Content-Type: application/connect+json\r\nConnect-Protocol-Version: 1\r\nContent-Length: {}\r\n\r\n",
        body.len() + 5
    );
    agent.send(&head);
    let framed = [&[0][..], &len, body.as_bytes()].concat();
    agent.0.get_mut().write_all(&framed).expect("it is sent");
    let mut answer = Vec::new();
    agent.0.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let parts = answer.split("\"stdout\":\"").skip(1);
    let parts = parts.filter_map(|part| part.split('"').next());
    parts.map(decode_base64).collect()
}

fn decode_base64(text: &str) -> String {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::new());
    for value in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff).to_le_bytes()[0]);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn configure(guest: &Guest) {
    let mut agent = guest.agent();
    agent.send(concat!(
        r#"{"id":1,"op":"configure","args":{"sandbox_id":"i","template_id":"base","hostname":"h","access_token":null,"#,
        r#""env":{},"default_user":"root","default_workdir":"/","unix_time_ns":0,"network":null,"#,
        r#""limits":{"pids_max":0,"memory_reserve_mib":0}}}"#,
        "\n"
    ));
    let answer = agent.line().expect("an answer");
    assert!(answer.contains("\"ok\""), "{answer}");
}

/// A guest that runs, configured, on one virtual CPU.
fn running(artifacts: &Artifacts) -> (Guest, Client) {
    let guest = Guest::start();
    let mut control = guest.client();
    let mut config = guest.config(artifacts, "");
    config.vcpus = 1;
    let boot = Op::Boot(Box::new(config));
    control.call::<Booted>(boot).expect("it boots");
    configure(&guest);
    (guest, control)
}

fn snapshot(control: &mut Client, dir: &Path, kind: Kind) -> Snapshotted {
    control.order(Op::Pause).expect("it stands still");
    let args = SnapshotArgs {
        dir: dir.to_owned(),
        memory: true,
        kind,
        kernel: "test".into(),
        image: "base".into(),
        sync: false,
        checksum: true,
        rebase: true,
    };
    let written = control.call(Op::Snapshot(Box::new(args)));
    let written: Snapshotted = written.expect("it is written");
    control.order(Op::Resume).expect("it goes on");
    written
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
    for round in 0..4 {
        let clone = Guest::start();
        let mut control = clone.client();
        let mut args = clone.restore(&dir);
        args.verify = round == 0;
        args.record = round == 1;
        if round > 0 {
            let mut config = clone.config(&artifacts, "");
            config.vcpus = 1;
            let shape = Op::Prepare(Box::new(Shape::of(&config)));
            control.call::<Ready>(shape).expect("it is prepared");
        }
        let restored = control.call(Op::Restore(Box::new(args)));
        let restored: Restored = restored.expect("it is restored");
        assert_eq!(restored.id, written.id);
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
        let args = SnapshotArgs {
            dir: path(name),
            memory: true,
            kind,
            kernel: String::new(),
            image: String::new(),
            sync: false,
            checksum: true,
            rebase: false,
        };
        let written = control.call(Op::Snapshot(Box::new(args)));
        let written: Snapshotted = written.expect("it is written");
        assert_eq!(written.kind, kind);
        let clone = Guest::start();
        let mut args = clone.restore(&path(name));
        (args.resume, args.verify) = (false, true);
        let mut other = clone.client();
        let restore = Op::Restore(Box::new(args));
        other.call::<Restored>(restore).expect("it is restored");
        let copy = format!("copy-{name}");
        let args = SnapshotArgs {
            dir: path(&copy),
            memory: true,
            kind: Kind::Full,
            kernel: String::new(),
            image: String::new(),
            sync: false,
            checksum: false,
            rebase: false,
        };
        let written = other.call(Op::Snapshot(Box::new(args)));
        let _: Snapshotted = written.expect("it is written");
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
