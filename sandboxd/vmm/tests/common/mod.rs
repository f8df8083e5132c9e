//! What tests and benchmarks with real guests share: finding the artefacts, one `microvm` process with a guest, and talking to
//! the guest's agent.

#![allow(dead_code)]

pub mod disk;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use vmm::config::{DiskConfig, MachineConfig, SerialConfig, VsockConfig};
use vmm::control::{
    Booted, Client, DiskOverride, Op, Ready, RestoreArgs, SnapshotArgs, Snapshotted, Stats,
};
use vmm::machine::Shape;
use vmm::snapshot::Kind;

/// How long anything may take: emulated hosts are slow.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The port of the guest's agent.
pub const AGENT_PORT: u32 = 1024;

/// What a guest is made of.
pub struct Artifacts {
    pub kernel: PathBuf,
    pub agent_disk: PathBuf,
    pub overlay_base: PathBuf,
    pub rootfs: PathBuf,
}

impl Artifacts {
    /// The artefacts with the image `base`; None, with a line that says why, where something is missing.
    pub fn find() -> Option<Self> {
        Self::with_image("base")
    }

    /// The same with another image.
    pub fn with_image(image: &str) -> Option<Self> {
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
            rootfs: get("SANDBOXD_TEMPLATES")?.join(image).join("rootfs.erofs"),
        };
        if let Err(error) = kvm_ioctls::Kvm::new() {
            missing(format!("/dev/kvm cannot be opened: {error}"));
            return None;
        }
        Some(found)
    }
}

pub struct Guest {
    pub child: Child,
    pub dir: tempfile::TempDir,
}

impl Guest {
    /// The program of this build, without a machine yet.
    pub fn start() -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_microvm")))
    }

    /// Another build's program, to be compared with.
    pub fn start_program(program: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let child = Command::new(program)
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path("control.sock"), PATIENCE).expect("a connection")
    }

    pub fn config(&self, artifacts: &Artifacts, extra: &str) -> MachineConfig {
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

    /// Makes the machine of one virtual CPU ready for a snapshot of such a machine.
    pub fn prepare(&self, artifacts: &Artifacts, control: &mut Client) {
        let mut config = self.config(artifacts, "");
        config.vcpus = 1;
        let shape = Op::Prepare(Box::new(Shape::of(&config)));
        control.call::<Ready>(shape).expect("it is prepared");
    }

    /// What a clone of the snapshot in `dir` has of its own.
    pub fn restore(&self, dir: &Path) -> RestoreArgs {
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

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the process ends");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What can be said about a guest that does not answer: its VMM's counters twice, where its threads are, its console.
    pub fn report(&self) -> String {
        let stats = || match self.client().call::<Stats>(Op::Stats) {
            Ok(stats) => format!("{stats:?}"),
            Err(error) => error.to_string(),
        };
        let before = stats();
        std::thread::sleep(Duration::from_secs(2));
        let mut report = format!("{before}\n2 s later: {}\n", stats());
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        for task in tasks.into_iter().flatten().flatten() {
            for name in ["comm", "stat", "stack"] {
                report += &std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            }
        }
        report + &std::fs::read_to_string(self.path("serial.log")).unwrap_or_default()
    }

    /// Connects to the agent's control port; waits for the guest to listen.
    pub fn agent(&self) -> Agent {
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
pub struct Agent(pub BufReader<UnixStream>);

impl Agent {
    pub fn connect(socket: &Path) -> Option<Self> {
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

    pub fn send(&mut self, text: &str) {
        let _ = self.0.get_mut().write_all(text.as_bytes());
    }

    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let len = (&mut self.0).take(1 << 16).read_line(&mut line).ok()?;
        (len > 0).then(|| line.trim_end().to_owned())
    }

    /// All that still comes, until the other side closes; what has come, where that takes too long. A stream that only keeps
    /// itself alive takes too long as well.
    pub fn rest(&mut self) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut answer = Vec::new();
        let ended = loop {
            let mut bytes = [0; 4096];
            match self.0.read(&mut bytes) {
                Ok(0) => break true,
                Ok(len) => answer.extend_from_slice(&bytes[..len]),
                Err(_) => break false,
            }
            if Instant::now() > deadline {
                break false;
            }
        };
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if ended { Ok(answer) } else { Err(answer) }
    }

    pub fn hello(&mut self, id: u64) -> Option<String> {
        self.send(&format!("{{\"id\":{id},\"op\":\"hello\",\"args\":{{}}}}\n"));
        self.line()
    }

    /// Asks for an operation and waits for it.
    pub fn order(&mut self, op: &str, args: &str) {
        self.send(&format!("{{\"id\":1,\"op\":\"{op}\",\"args\":{args}}}\n"));
        let answer = self.line().expect("an answer");
        assert!(answer.contains("\"ok\""), "{answer}");
    }

    /// Gives the guest an identity.
    pub fn configure(&mut self, code_interpreter: bool) {
        let args = format!(
            concat!(
                r#"{{"sandbox_id":"i","template_id":"base","hostname":"h","access_token":null,"env":{{}},"default_user":"root","#,
                r#""default_workdir":"/","unix_time_ns":0,"network":null,"limits":{{"pids_max":0,"memory_reserve_mib":0}},"#,
                r#""code_interpreter":{}}}"#
            ),
            code_interpreter
        );
        self.order("configure", &args);
    }
}

/// Runs `command` in the guest through the agent's process service; returns what it printed.
pub fn run(guest: &Guest, command: &str) -> String {
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
    let answer = agent.rest().unwrap_or_else(|got| {
        panic!(
            "{command:?} has not ended; so far: {got:?}\n{}",
            guest.report()
        )
    });
    let parts = answer.split("\"stdout\":\"").skip(1);
    let parts = parts.filter_map(|part| part.split('"').next());
    parts.map(decode_base64).collect()
}

pub fn decode_base64(text: &str) -> String {
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

pub fn configure(guest: &Guest) {
    guest.agent().configure(false);
}

/// A guest that runs, configured, on one virtual CPU.
pub fn running(artifacts: &Artifacts) -> (Guest, Client) {
    let guest = Guest::start();
    let mut control = guest.client();
    let mut config = guest.config(artifacts, "");
    config.vcpus = 1;
    let boot = Op::Boot(Box::new(config));
    control.call::<Booted>(boot).expect("it boots");
    configure(&guest);
    (guest, control)
}

/// Takes a snapshot of a guest that runs, and lets it go on as a clone of it.
pub fn snapshot(control: &mut Client, dir: &Path, kind: Kind) -> Snapshotted {
    control.order(Op::Pause).expect("it stands still");
    let written = write(control, dir, kind, true);
    control.order(Op::Resume).expect("it goes on");
    written
}

/// Takes a snapshot of a guest that stands still.
pub fn write(control: &mut Client, dir: &Path, kind: Kind, rebase: bool) -> Snapshotted {
    let args = SnapshotArgs {
        dir: dir.to_owned(),
        memory: true,
        kind,
        kernel: "test".into(),
        image: "base".into(),
        sync: false,
        checksum: true,
        rebase,
    };
    let written = control.call(Op::Snapshot(Box::new(args)));
    written.expect("it is written")
}
