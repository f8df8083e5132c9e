//! The shipped `microvm` program with a real guest: it boots, answers over vsock, stands still, goes on, and ends.
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
use vmm::control::{Booted, Client, Event, ExitReason, Op, State, Stats};

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
