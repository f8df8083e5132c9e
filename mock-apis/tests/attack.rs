//! The program under attack: ten thousand callers that hang, bodies and headers without end. Memory stays bounded and
//! other callers are answered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SCENARIO: &str = "
version: 1
name: attacked
services:
  - name: api
    routes:
      - operation: get
        method: GET
        path: /things/{id}
        reply: {status: 200, echo: true}
        rules:
          - {when: {query: {hang: '1'}}, fault: {hang: {for_ms: 600000}}}
      - operation: post
        method: POST
        path: /things/{id}
        reply: {status: 200, echo: true}
";

/// Callers that hang at once.
const CROWD: usize = 10_000;

/// What a hanging caller may cost the server: its socket's state in the program, its task, and its entry of the journal.
const EACH: u64 = 24 << 10;

/// How soon another caller is answered. Long for a loopback: the machine may be busy.
const SOON: Duration = Duration::from_secs(10);

struct Mock {
    child: Child,
    front: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Mock {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scenario = folder.path().join("scenario.yaml");
        std::fs::write(&scenario, SCENARIO).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mock-apis"))
            .arg("serve")
            .arg(&scenario)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--mcp",
                "127.0.0.1:0",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.next().unwrap().unwrap();
        let front = said
            .split_whitespace()
            .find_map(|word| word.strip_prefix("http://"))
            .unwrap_or_else(|| panic!("{said}"));
        Self {
            front: front.parse().unwrap(),
            child,
            _folder: folder,
        }
    }

    /// Resident memory, in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<u64>().unwrap() << 10
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.front).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Asks as anybody would; gives the status line.
    fn ask(&self) -> String {
        let mut stream = self.connect();
        let request = b"GET /things/1 HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.lines().next().unwrap_or_default().to_owned()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As many descriptors as the system allows, for this process and those that it starts.
fn raise_descriptors() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    maximum.unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_callers_that_hang_cost_little_and_disturb_nobody() {
    let descriptors = raise_descriptors();
    let needed = u64::try_from(CROWD + 256).unwrap();
    assert!(
        descriptors >= needed,
        "this test needs {needed} descriptors, and the system allows {descriptors} (ulimit -Hn)"
    );
    let mock = Mock::start();
    assert_eq!(mock.ask(), "HTTP/1.1 200 OK");
    let before = mock.memory();
    let crowd: Vec<TcpStream> = (0..CROWD)
        .map(|_| {
            let mut stream = mock.connect();
            let request = b"GET /things/1?hang=1 HTTP/1.1\r\nhost: api\r\n\r\n";
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    let asked = Instant::now();
    assert_eq!(mock.ask(), "HTTP/1.1 200 OK");
    assert!(asked.elapsed() < SOON);
    let each = mock.memory().saturating_sub(before) / u64::try_from(CROWD).unwrap();
    println!("{CROWD} hanging callers cost {each} bytes each");
    assert!(each < EACH, "{each} bytes each");
    // They hang still: nobody was sent away to make room.
    for mut stream in crowd.into_iter().step_by(997) {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let nothing = stream.read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    }
    assert_eq!(mock.ask(), "HTTP/1.1 200 OK");
}

#[test]
fn bodies_and_headers_without_end_are_cut_and_memory_stays_where_it_was() {
    let mock = Mock::start();
    assert_eq!(mock.ask(), "HTTP/1.1 200 OK");
    let before = mock.memory();
    let block = [b'x'; 16 << 10];
    let chunked =
        b"POST /things/1 HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n".as_slice();
    let long = b"POST /things/1 HTTP/1.1\r\nhost: api\r\ncontent-length: 99999999999\r\n\r\n";
    let headers = b"GET /things/1 HTTP/1.1\r\nhost: api\r\nx-long: ".as_slice();
    for (head, chunk) in [(chunked, "4000\r\n"), (long.as_slice(), ""), (headers, "")] {
        for _ in 0..2 {
            let mut stream = mock.connect();
            stream.set_write_timeout(Some(SOON)).unwrap();
            stream.write_all(head).unwrap();
            // Until it is cut, or 64 MiB have been taken, which is far beyond any limit.
            let mut taken = 0_usize;
            while taken < 64 << 20
                && stream.write_all(chunk.as_bytes()).is_ok()
                && stream.write_all(&block).is_ok()
                && (chunk.is_empty() || stream.write_all(b"\r\n").is_ok())
            {
                taken += block.len();
            }
            assert!(taken < 64 << 20, "{taken} bytes were taken");
        }
        assert_eq!(mock.ask(), "HTTP/1.1 200 OK");
    }
    let grown = mock.memory().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more");
}
