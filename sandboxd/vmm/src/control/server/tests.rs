//! Tests over a real socket, with a service that needs no machine.

use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::SfdFlags;

use super::super::{Client, ClientError, Event, Op};
use super::*;

/// Answers everything with its name, and ends on `kill` and when its starter leaves.
struct Parrot(Arc<ExitCell>);

impl Service for Parrot {
    fn answer(&mut self, request: Request) -> Response {
        if request.op == Op::Kill {
            self.0.set(ExitReason::Killed, "asked");
        }
        Response::ok(request.id, &request.op.name())
    }

    fn starter_left(&mut self) {
        self.0.set(ExitReason::Killed, "left");
    }
}

struct Rig {
    path: PathBuf,
    exit: Arc<ExitCell>,
    thread: Option<JoinHandle<Exit>>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(starter: Option<UnixStream>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let exit = Arc::new(ExitCell::new().unwrap());
        let mut server = Server::bind(&path).unwrap();
        if let Some(stream) = starter {
            server.begin_with(stream).unwrap();
        }
        let (cell, mut service) = (Arc::clone(&exit), Parrot(Arc::clone(&exit)));
        let thread = std::thread::spawn(move || {
            let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
            let signals = SignalFd::with_flags(&SigSet::empty(), flags).unwrap();
            let end = server.run(&mut service, &cell, &signals).unwrap();
            server.announce(&end);
            end
        });
        Self {
            path,
            exit,
            thread: Some(thread),
            _dir: dir,
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path, Duration::from_secs(10)).unwrap()
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.exit.set(ExitReason::Error, "the test is over");
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
        assert!(!self.path.exists(), "the socket is removed");
    }
}

#[test]
fn many_clients_are_answered() {
    let rig = Rig::new();
    let mut clients: Vec<_> = (0..5).map(|_| rig.client()).collect();
    for client in &mut clients {
        assert_eq!(client.call::<String>(Op::Stats).unwrap(), "stats");
    }
    assert_eq!(clients[0].call::<String>(Op::Hello).unwrap(), "hello");
}

#[test]
fn the_end_is_told_to_everyone() {
    let rig = Rig::new();
    let (mut one, mut two) = (rig.client(), rig.client());
    two.call::<String>(Op::Hello).unwrap();
    assert_eq!(one.call::<String>(Op::Kill).unwrap(), "kill");
    for client in [&mut one, &mut two] {
        let Event::Exited { reason, detail } = client.next_event().unwrap();
        assert_eq!((reason, detail.as_str()), (ExitReason::Killed, "asked"));
    }
    assert!(matches!(one.next_event(), Err(ClientError::Closed)));
}

#[test]
fn half_a_line_waits_for_its_other_half() {
    let rig = Rig::new();
    let mut raw = rig.raw();
    raw.write_all(br#"{"v":1,"id":1,"#).unwrap();
    assert_eq!(rig.client().call::<String>(Op::Hello).unwrap(), "hello");
    raw.write_all(b"\"op\":\"pause\"}\n").unwrap();
    let mut answer = [0; 22];
    raw.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"{\"id\":1,\"ok\":\"pause\"}\n");
}

#[test]
fn an_endless_line_ends_the_connection() {
    let rig = Rig::new();
    let mut raw = rig.raw();
    // The server stops reading somewhere in here, so the last write may fail.
    let _ = raw.write_all(&vec![b'x'; MAX_LINE + 1]);
    let mut answer = String::new();
    let _ = raw.read_to_string(&mut answer);
    assert!(
        answer.is_empty() || answer.contains("longer than"),
        "{answer}"
    );
    assert_eq!(rig.client().call::<String>(Op::Hello).unwrap(), "hello");
}

#[test]
fn a_peer_that_does_not_read_costs_nobody_else() {
    let rig = Rig::new();
    let mut deaf = rig.raw();
    deaf.set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let flood = "{\"v\":1,\"id\":1,\"op\":\"hello\"}\n".repeat(50_000);
    let _ = deaf.write_all(flood.as_bytes());
    assert_eq!(rig.client().call::<String>(Op::Hello).unwrap(), "hello");
}

#[test]
fn connections_are_bounded() {
    let rig = Rig::new();
    let held: Vec<_> = (0..MAX_CONNECTIONS).map(|_| rig.raw()).collect();
    let mut one_more = rig.raw();
    assert_eq!(one_more.read(&mut [0; 8]).unwrap(), 0, "closed at once");
    drop(held);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while rig.client().call::<String>(Op::Hello).is_err() {
        assert!(std::time::Instant::now() < deadline, "room is made again");
    }
}

#[test]
fn a_taken_path_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taken");
    std::fs::write(&path, b"mine").unwrap();
    assert!(matches!(Server::bind(&path), Err(ServerError::Bind { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[test]
fn the_connection_of_the_start_is_served_and_missed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let rig = Rig::with(Some(theirs));
    ours.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    (&ours)
        .write_all(b"{\"v\":1,\"id\":1,\"op\":\"hello\"}\n")
        .unwrap();
    let mut answer = [0; 64];
    let len = (&ours).read(&mut answer).unwrap();
    assert_eq!(answer[..len], *b"{\"id\":1,\"ok\":\"hello\"}\n");
    // Anybody else may come and go.
    drop(rig.client());
    let mut other = rig.client();
    let _: String = other.call(Op::Stats).unwrap();
    assert_eq!(rig.exit.get(), None);
    drop(ours);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while rig.exit.get().is_none() {
        assert!(std::time::Instant::now() < deadline, "it is missed");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(rig.exit.get().unwrap().detail, "left");
}
