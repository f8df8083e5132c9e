//! The shipped `microvm` program, driven over its control socket. None of these tests needs KVM.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use vmm::control::{
    Client, ClientError, ErrorCode, Event, ExitReason, Hello, Op, PROTOCOL, State, Stats,
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Process {
    child: Child,
    control: PathBuf,
    _dir: tempfile::TempDir,
}

impl Process {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let control = dir.path().join("control.sock");
        let child = Command::new(env!("CARGO_BIN_EXE_microvm"))
            .args(["--id", "test-vm", "--log-level", "off", "--control"])
            .arg(&control)
            .stdin(Stdio::null())
            .spawn()
            .expect("the program starts");
        let process = Self {
            child,
            control,
            _dir: dir,
        };
        let deadline = Instant::now() + PATIENCE;
        while !process.control.exists() {
            assert!(Instant::now() < deadline, "the control socket appears");
            std::thread::sleep(Duration::from_millis(5));
        }
        process
    }

    fn client(&self) -> Client {
        Client::connect(&self.control, PATIENCE).expect("a connection")
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

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("a signal");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_says_who_it_is_and_ends_when_killed() {
    let mut process = Process::start();
    let mode = std::fs::metadata(&process.control)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = process.client();
    let hello: Hello = client.call(Op::Hello).expect("an answer");
    assert_eq!(hello.id, "test-vm");
    assert_eq!(hello.pid, process.child.id());
    assert_eq!((hello.protocol, hello.state), (PROTOCOL, State::Idle));
    client.order(Op::Kill).expect("an answer");
    let Event::Exited { reason, .. } = client.next_event().expect("an event");
    assert_eq!(reason, ExitReason::Killed);
    assert_eq!(process.wait().code(), Some(0));
    assert!(!process.control.exists(), "the socket is removed");
}

#[test]
fn a_termination_signal_ends_it_in_order() {
    use nix::sys::signal::Signal;
    let mut process = Process::start();
    let mut client = process.client();
    client.order(Op::Stats).expect("an answer");
    process.signal(Signal::SIGHUP);
    client.order(Op::Stats).expect("a hang-up is nothing to it");
    process.signal(Signal::SIGTERM);
    let Event::Exited { reason, detail } = client.next_event().expect("an event");
    assert_eq!(reason, ExitReason::Killed);
    assert!(detail.contains("signal 15"), "{detail}");
    assert_eq!(process.wait().code(), Some(0));
    assert!(!process.control.exists());
}

#[test]
fn it_leaves_the_session_of_whoever_started_it() {
    let process = Process::start();
    let pid = i32::try_from(process.child.id()).expect("a process id");
    let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).expect("a session");
    assert_eq!(session.as_raw(), pid);
}

#[test]
fn a_machine_that_cannot_be_built_leaves_it_idle() {
    let process = Process::start();
    let mut client = process.client();
    let config = r#"{"vcpus":1,"memory_mib":64,"kernel":"/nonexistent/vmlinux"}"#;
    let boot = Op::Boot(serde_json::from_str(config).expect("a configuration"));
    let Err(ClientError::Refused(error)) = client.call::<serde_json::Value>(boot) else {
        panic!("a kernel that is not there cannot be booted");
    };
    assert_eq!(error.code, ErrorCode::BootFailed);
    let stats: Stats = client.call(Op::Stats).expect("an answer");
    assert_eq!((stats.state, stats.memory_mib), (State::Idle, 0));
}

#[test]
fn an_idle_process_is_small() {
    let process = Process::start();
    let stats: Stats = process.client().call(Op::Stats).expect("an answer");
    assert!(stats.overhead_kib > 0);
    // The program of a release build is far below; this one carries debug code.
    assert!(stats.overhead_kib < 12 * 1024, "{} KiB", stats.overhead_kib);
}

#[test]
fn bad_usage_is_explained() {
    let output = Command::new(env!("CARGO_BIN_EXE_microvm"))
        .args(["run", "--config", "/nonexistent.json"])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("/nonexistent.json cannot be read"), "{text}");
    let output = Command::new(env!("CARGO_BIN_EXE_microvm"))
        .output()
        .expect("the program starts");
    assert!(!output.status.success());
}

#[test]
fn a_process_whose_starter_leaves_ends() {
    use std::io::{BufRead, BufReader, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    let dir = tempfile::tempdir().expect("a folder");
    let control = dir.path().join("control.sock");
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let child = Command::new(env!("CARGO_BIN_EXE_microvm"))
        .args(["--id", "test-vm", "--log-level", "off", "--control-stdin"])
        .arg("--control")
        .arg(&control)
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .expect("the program starts");
    let mut process = Process {
        child,
        control,
        _dir: dir,
    };
    // Asked before it listens, answered when it does; by then its socket is there for others.
    (&ours)
        .write_all(b"{\"v\":1,\"id\":1,\"op\":\"hello\"}\n")
        .expect("a request");
    let mut answer = String::new();
    let mut lines = BufReader::new(&ours);
    lines.read_line(&mut answer).expect("an answer");
    assert!(answer.contains("\"id\":\"test-vm\""), "{answer}");
    let mut client = process.client();
    client.call::<Hello>(Op::Hello).expect("an answer");
    drop(lines);
    drop(ours);
    let Event::Exited { reason, .. } = client.next_event().expect("its last words");
    assert_eq!(reason, ExitReason::Killed);
    assert!(process.wait().success());
}
