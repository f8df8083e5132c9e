use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use super::packet::{
    HEADER_BYTES, HEADER_LEN, Header, Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM,
};
use super::*;
use crate::config::VsockConfig;
use crate::devices::virtio::test_driver::{BUFFERS, Bench, Buffer, DriverQueue, memory};
use crate::devices::virtio::{GuestMemory, VirtioDevice};

const CID: u32 = 7;
const PORT: u32 = 1024;
const RX_BUFFER: u32 = 4096;
const RX_BUFFERS: u64 = BUFFERS + 0x10_0000;
const EVENT_BUFFER: u64 = BUFFERS + 0x8_0000;
const TX_SIZE: u16 = 256;
/// Time that a test may take between two steps.
const MARGIN: Duration = Duration::from_secs(5);

/// The device with a guest that does as it is told.
struct Rig {
    dir: TempDir,
    memory: Arc<GuestMemory>,
    rx: DriverQueue,
    tx: DriverQueue,
    events: DriverQueue,
    bench: Bench<Vsock>,
    /// Window that the guest announces, and what it has taken.
    window: u32,
    taken: u32,
}

fn config(dir: &TempDir) -> VsockConfig {
    VsockConfig {
        guest_cid: CID,
        uds_path: dir.path().join("v.sock"),
    }
}

fn rig_with(rx_buffers: u16) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let memory = memory(8);
    let rx = DriverQueue::new(&memory, 0, QUEUE_SIZE);
    let tx = DriverQueue::new(&memory, 1, TX_SIZE);
    let events = DriverQueue::new(&memory, 2, EVENT_QUEUE_SIZE);
    let mut bench = Bench::new(Vsock::new(&config(&dir)).unwrap());
    bench.activate(&memory, &[&rx, &tx, &events], 0);
    let mut rig = Rig {
        dir,
        memory,
        rx,
        tx,
        events,
        bench,
        window: 64 << 10,
        taken: 0,
    };
    for _ in 0..rx_buffers {
        rig.offer_rx();
    }
    rig
}

fn rig() -> Rig {
    rig_with(128)
}

impl Rig {
    fn path(&self) -> PathBuf {
        config(&self.dir).uds_path
    }

    fn offer_rx(&mut self) {
        // The address depends on the descriptor alone, so it is free again when the descriptor is.
        let index = u64::from(self.rx.offer(&[Buffer::Writable(0, 0)]));
        let flags = 2;
        let at = RX_BUFFERS + index * u64::from(RX_BUFFER);
        self.rx
            .write_descriptor(u16::try_from(index).unwrap(), at, RX_BUFFER, flags, 0);
    }

    /// Packets for the guest, and a fresh buffer for each.
    fn packets(&mut self) -> Vec<(Header, Vec<u8>)> {
        self.bench.run();
        let mut packets = Vec::new();
        for (head, len) in self.rx.used() {
            let at = GuestAddress(RX_BUFFERS + u64::from(head) * u64::from(RX_BUFFER));
            let mut bytes = vec![0; len as usize];
            self.memory.read_slice(&mut bytes, at).unwrap();
            let data = bytes.split_off(HEADER_BYTES);
            let header = Header::decode(&bytes.try_into().unwrap());
            assert_eq!(header.len as usize, data.len());
            assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, u64::from(CID)));
            self.taken = self.taken.wrapping_add(header.len);
            packets.push((header, data));
            self.offer_rx();
        }
        packets
    }

    fn packet(&mut self) -> (Header, Vec<u8>) {
        let mut packets = self.packets();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    /// Sends a packet of the guest from `guest_port` to `host_port`.
    fn send(&mut self, guest_port: u32, host_port: u32, op: Op, flags: u32, data: &[u8]) {
        let header = Header {
            src_cid: u64::from(CID),
            dst_cid: HOST_CID,
            src_port: guest_port,
            dst_port: host_port,
            len: u32::try_from(data.len()).unwrap(),
            kind: TYPE_STREAM,
            op: op as u16,
            flags,
            buf_alloc: self.window,
            fwd_cnt: self.taken,
        };
        self.send_raw(&header, data);
    }

    fn send_raw(&mut self, header: &Header, data: &[u8]) {
        self.memory
            .write_slice(&header.encode(), GuestAddress(BUFFERS))
            .unwrap();
        self.memory
            .write_slice(data, GuestAddress(BUFFERS + 0x100))
            .unwrap();
        let len = u32::try_from(data.len()).unwrap();
        let chain = [
            Buffer::Readable(BUFFERS, HEADER_LEN),
            Buffer::Readable(BUFFERS + 0x100, len),
        ];
        self.tx.offer(&chain);
        self.tx.kick();
        self.bench.run();
        assert_eq!(self.tx.used().len(), 1);
    }

    /// A host process that asked for a guest port; the guest has yet to answer.
    fn connect(&mut self) -> (UnixStream, u32) {
        let mut host = UnixStream::connect(self.path()).unwrap();
        host.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        host.write_all(b"CONNECT 1024\n").unwrap();
        let (request, _) = self.packet();
        assert_eq!((request.op, request.dst_port), (Op::Request as u16, PORT));
        (host, request.src_port)
    }

    /// An open connection that a host process asked for.
    fn open(&mut self) -> (UnixStream, u32) {
        let (mut host, port) = self.connect();
        self.taken = 0;
        self.send(PORT, port, Op::Response, 0, b"");
        let line = format!("OK {port}\n");
        let mut answer = vec![0; line.len()];
        host.read_exact(&mut answer).unwrap();
        assert_eq!(answer, line.as_bytes());
        (host, port)
    }

    /// Pretends that `after` has passed.
    fn expire(&mut self, after: Duration) {
        self.bench.device().muxer().expire(Instant::now() + after);
    }

    fn connections(&self) -> u64 {
        self.bench.counter("connections")
    }
}

fn ends(host: &mut UnixStream) -> bool {
    matches!(host.read(&mut [0]), Ok(0) | Err(_))
}

fn would_block(host: &mut UnixStream) -> bool {
    host.set_nonblocking(true).unwrap();
    let blocked = host
        .read(&mut [0])
        .is_err_and(|why| why.kind() == ErrorKind::WouldBlock);
    host.set_nonblocking(false).unwrap();
    blocked
}

#[test]
fn a_host_process_talks_to_a_guest_port() {
    let mut rig = rig();
    let (mut host, port) = rig.open();
    host.write_all(b"from the host").unwrap();
    let (header, data) = rig.packet();
    assert_eq!(
        (header.op, data.as_slice()),
        (Op::Data as u16, b"from the host".as_slice())
    );
    rig.send(PORT, port, Op::Data, 0, b"from the guest");
    let mut got = [0; 14];
    host.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"from the guest");
}

#[test]
fn bytes_behind_the_greeting_belong_to_the_guest() {
    let mut rig = rig();
    let mut host = UnixStream::connect(rig.path()).unwrap();
    host.write_all(b"CONNEC").unwrap();
    assert!(rig.packets().is_empty());
    host.write_all(b"T 1024\nCONTROL\n").unwrap();
    let (request, _) = rig.packet();
    rig.taken = 0;
    rig.send(PORT, request.src_port, Op::Response, 0, b"");
    assert_eq!(rig.packet().1, b"CONTROL\n");
}

#[test]
fn a_wrong_greeting_is_closed() {
    let mut rig = rig();
    for greeting in ["GET / HTTP/1.1\r\n\r\n", "CONNECT x\n", "CONNECT 1"] {
        let mut host = UnixStream::connect(rig.path()).unwrap();
        host.write_all(greeting.as_bytes()).unwrap();
        host.shutdown(std::net::Shutdown::Write).unwrap();
        rig.bench.run();
        assert!(ends(&mut host), "{greeting}");
    }
    drop(UnixStream::connect(rig.path()).unwrap());
    rig.bench.run();
    assert_eq!(rig.connections(), 0);
}

#[test]
fn a_guest_that_refuses_closes_the_host_s_socket() {
    let mut rig = rig();
    let (mut host, port) = rig.connect();
    rig.send(PORT, port, Op::Reset, 0, b"");
    assert!(ends(&mut host));
    assert_eq!(rig.connections(), 0);
    assert!(rig.packets().is_empty(), "a reset is not answered");
}

#[test]
fn a_host_process_that_gives_up_frees_its_slot() {
    let mut rig = rig();
    let (host, port) = rig.connect();
    drop(host);
    assert_eq!(rig.packet().0.op, Op::Reset as u16);
    rig.send(PORT, port, Op::Response, 0, b"");
    assert_eq!(rig.packet().0.op, Op::Reset as u16, "too late");
    assert_eq!(rig.connections(), 0);
}

#[test]
fn the_guest_reaches_a_listener_on_the_host() {
    let mut rig = rig();
    let listener = UnixListener::bind(rig.dir.path().join("v.sock_5000")).unwrap();
    rig.send(99, 5000, Op::Request, 0, b"");
    let (response, _) = rig.packet();
    assert_eq!(
        (response.op, response.src_port, response.dst_port),
        (Op::Response as u16, 5000, 99)
    );
    let (mut host, _) = listener.accept().unwrap();
    rig.send(99, 5000, Op::Data, 0, b"hello");
    let mut got = [0; 5];
    host.read_exact(&mut got).unwrap();
    host.write_all(b"good day").unwrap();
    assert_eq!(rig.packet().1, b"good day");
}

#[test]
fn nobody_listening_means_reset() {
    let mut rig = rig();
    rig.send(99, 5001, Op::Request, 0, b"");
    let (reset, _) = rig.packet();
    assert_eq!(
        (reset.op, reset.src_port, reset.dst_port),
        (Op::Reset as u16, 5001, 99)
    );
}

#[test]
fn the_host_s_end_is_a_half_close() {
    let mut rig = rig();
    let (mut host, port) = rig.open();
    host.write_all(b"last words").unwrap();
    host.shutdown(std::net::Shutdown::Write).unwrap();
    let packets = rig.packets();
    assert_eq!(packets[0].1, b"last words");
    assert_eq!(
        (packets[1].0.op, packets[1].0.flags),
        (Op::Shutdown as u16, SHUTDOWN_SEND)
    );
    rig.send(PORT, port, Op::Data, 0, b"answer");
    let mut got = [0; 6];
    host.read_exact(&mut got).unwrap();
    rig.send(PORT, port, Op::Shutdown, SHUTDOWN_SEND, b"");
    let (end, _) = rig.packet();
    assert_eq!(
        (end.op, end.flags),
        (Op::Shutdown as u16, SHUTDOWN_SEND | SHUTDOWN_RECEIVE)
    );
    assert!(ends(&mut host));
    rig.send(PORT, port, Op::Reset, 0, b"");
    assert_eq!(rig.connections(), 0);
}

#[test]
fn the_guest_s_end_is_a_half_close_too() {
    let mut rig = rig();
    let (mut host, port) = rig.open();
    rig.send(PORT, port, Op::Data, 0, b"last words");
    rig.send(PORT, port, Op::Shutdown, SHUTDOWN_SEND, b"");
    let mut got = Vec::new();
    host.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"last words");
    host.write_all(b"answer").unwrap();
    assert_eq!(rig.packet().1, b"answer");
}

#[test]
fn a_guest_that_closes_is_answered_with_a_reset() {
    let mut rig = rig();
    let (mut host, port) = rig.open();
    rig.send(
        PORT,
        port,
        Op::Shutdown,
        SHUTDOWN_SEND | SHUTDOWN_RECEIVE,
        b"",
    );
    assert_eq!(rig.packet().0.op, Op::Reset as u16);
    assert!(ends(&mut host));
    assert_eq!(rig.connections(), 0);
}

#[test]
fn a_host_process_that_closes_is_told_to_the_guest() {
    let mut rig = rig();
    let (mut host, port) = rig.open();
    host.write_all(b"bye").unwrap();
    drop(host);
    let packets = rig.packets();
    assert_eq!(packets[0].1, b"bye");
    let (end, _) = packets.last().unwrap();
    assert_eq!(
        (end.op, end.flags),
        (Op::Shutdown as u16, SHUTDOWN_SEND | SHUTDOWN_RECEIVE)
    );
    rig.send(PORT, port, Op::Reset, 0, b"");
    assert_eq!(rig.connections(), 0);
}

#[test]
fn a_slow_host_process_fills_the_window_and_no_more() {
    let mut rig = rig();
    let (mut host, port) = rig.open();
    let block = [5; 32 << 10];
    // The socket takes some; what it does not take, the window must hold.
    let mut sent = 0;
    while rig.bench.counter("violations") == 0 {
        rig.send(PORT, port, Op::Data, 0, &block);
        sent += block.len();
        assert!(sent < 4 << 20, "nothing stops the guest");
    }
    let packets = rig.packets();
    assert_eq!(packets.last().unwrap().0.op, Op::Reset as u16);
    // A violation is no orderly end: what was buffered is lost, what the socket took is not.
    let mut got = Vec::new();
    let _ = host.read_to_end(&mut got);
    assert!(got.len() + ROOMY_WINDOW as usize + block.len() >= sent);
}

#[test]
fn what_a_slow_host_process_is_owed_survives_the_guest() {
    let mut rig = rig();
    let (mut host, port) = rig.open();
    let block = [6; 32 << 10];
    let mut sent = 0;
    // Until the socket is full and half a window waits.
    let window = ROOMY_WINDOW as usize;
    let mut news = 0;
    while sent < news + window / 2 {
        rig.send(PORT, port, Op::Data, 0, &block);
        sent += block.len();
        if let Some((update, _)) = rig.packets().last() {
            news = update.fwd_cnt as usize;
        }
    }
    rig.send(
        PORT,
        port,
        Op::Shutdown,
        SHUTDOWN_SEND | SHUTDOWN_RECEIVE,
        b"",
    );
    assert!(rig.packets().is_empty(), "no reset while bytes wait");
    rig.send(PORT, port, Op::Reset, 0, b"");
    assert_eq!(rig.connections(), 1);
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        host.read_to_end(&mut got).map(|_| got)
    });
    while rig.connections() > 0 {
        rig.bench.turn(1000);
    }
    assert_eq!(reader.join().unwrap().unwrap().len(), sent);
}

#[test]
fn the_guest_s_credit_stops_the_host() {
    let mut rig = rig();
    rig.window = 10_000;
    let (mut host, port) = rig.open();
    host.write_all(&[1; 30_000]).unwrap();
    let packets = rig.packets();
    let got: usize = packets.iter().map(|(_, data)| data.len()).sum();
    assert_eq!(got, 10_000);
    assert_eq!(packets.last().unwrap().0.op, Op::CreditRequest as u16);
    assert!(rig.packets().is_empty());
    rig.send(PORT, port, Op::CreditUpdate, 0, b"");
    let more: usize = rig.packets().iter().map(|(_, data)| data.len()).sum();
    assert_eq!(more, 10_000);
}

#[test]
fn a_guest_without_buffers_is_waited_for() {
    let mut rig = rig_with(2);
    let (mut host, _) = rig.open();
    host.write_all(&[3; 20_000]).unwrap();
    let first = rig.packets();
    assert_eq!(first.len(), 2);
    // The test guest gives a buffer back for each; the device comes for them when it is notified, and not before.
    assert!(rig.packets().is_empty());
    let mut got = first.iter().map(|(_, data)| data.len()).sum::<usize>();
    while got < 20_000 {
        rig.rx.kick();
        got += rig
            .packets()
            .iter()
            .map(|(_, data)| data.len())
            .sum::<usize>();
    }
    assert_eq!(got, 20_000);
}

#[test]
fn connections_take_turns() {
    let mut rig = rig();
    let mut hosts = Vec::new();
    for _ in 0..3 {
        hosts.push(rig.open());
    }
    for (host, _) in &mut hosts {
        host.write_all(&[9; 12_000]).unwrap();
    }
    let order: Vec<u32> = rig
        .packets()
        .iter()
        .map(|(header, _)| header.src_port)
        .collect();
    assert_eq!(order.len(), 9);
    for round in order.chunks(3) {
        let mut ports = round.to_vec();
        ports.sort_unstable();
        assert_eq!(
            ports,
            hosts.iter().map(|(_, port)| *port).collect::<Vec<_>>()
        );
    }
}

#[test]
fn violations_cost_one_connection() {
    let mut rig = rig();
    let (mut one, port) = rig.open();
    let (mut other, _) = rig.open();
    rig.send(PORT, port, Op::Request, 0, b"");
    assert_eq!(rig.packet().0.op, Op::Reset as u16);
    assert!(ends(&mut one));
    assert!(would_block(&mut other));
    assert_eq!(rig.bench.counter("violations"), 1);
    assert!(!rig.bench.interrupt.needs_reset_raised());
}

#[test]
fn strangers_are_reset_and_impostors_ignored() {
    let mut rig = rig();
    rig.send(5, 6, Op::Data, 0, b"?");
    let (reset, _) = rig.packet();
    assert_eq!(
        (reset.op, reset.src_port, reset.dst_port),
        (Op::Reset as u16, 6, 5)
    );
    rig.send(5, 6, Op::Reset, 0, b"");
    assert!(rig.packets().is_empty());

    let honest = Header {
        src_cid: u64::from(CID),
        dst_cid: HOST_CID,
        kind: TYPE_STREAM,
        op: Op::Request as u16,
        ..Header::default()
    };
    rig.send_raw(
        &Header {
            src_cid: 8,
            ..honest
        },
        b"",
    );
    assert!(rig.packets().is_empty());
    assert_eq!(rig.bench.counter("spoofed"), 1);
    rig.send_raw(&Header { kind: 2, ..honest }, b"");
    assert_eq!(rig.packet().0.op, Op::Reset as u16);
}

#[test]
fn a_packet_that_is_shorter_than_it_says_is_a_reset() {
    let mut rig = rig();
    let (mut host, port) = rig.open();
    let header = Header {
        src_cid: u64::from(CID),
        dst_cid: HOST_CID,
        src_port: PORT,
        dst_port: port,
        kind: TYPE_STREAM,
        op: Op::Data as u16,
        len: 100,
        ..Header::default()
    };
    rig.send_raw(&header, &[0; 99]);
    assert!(ends(&mut host));
    assert_eq!(rig.bench.counter("malformed"), 1);
}

#[test]
fn a_greeting_that_never_comes_runs_out_of_time() {
    let mut rig = rig();
    let mut host = UnixStream::connect(rig.path()).unwrap();
    rig.bench.run();
    rig.expire(OPENING_TIME - MARGIN);
    assert_eq!(rig.connections(), 1);
    rig.expire(OPENING_TIME);
    assert!(ends(&mut host));
    assert!(rig.packets().is_empty());
}

#[test]
fn a_guest_that_never_answers_runs_out_of_time() {
    let mut rig = rig();
    let (mut host, port) = rig.connect();
    rig.expire(OPENING_TIME);
    assert!(ends(&mut host));
    rig.rx.kick();
    let (reset, _) = rig.packet();
    assert_eq!((reset.op, reset.src_port), (Op::Reset as u16, port));
    assert_eq!(rig.bench.counter("timeouts"), 1);
}

#[test]
fn an_open_connection_has_all_the_time_and_a_closed_one_has_not() {
    let mut rig = rig();
    let (host, _) = rig.open();
    rig.expire(Duration::from_secs(3600));
    assert_eq!(rig.connections(), 1);
    drop(host);
    assert_eq!(rig.packet().0.op, Op::Shutdown as u16);
    rig.expire(CLOSING_TIME - MARGIN);
    assert_eq!(rig.connections(), 1);
    rig.expire(CLOSING_TIME);
    rig.rx.kick();
    assert_eq!(rig.packet().0.op, Op::Reset as u16);
    assert_eq!(rig.connections(), 0);
}

#[test]
fn there_is_a_most_of_connections() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Both ends of every connection are in this process.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(4096), hard.max(4096)).unwrap();
    let mut rig = rig();
    let mut hosts = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        hosts.push(UnixStream::connect(rig.path()).unwrap());
        rig.bench.run();
    }
    assert_eq!(rig.connections(), MAX_CONNECTIONS as u64);
    let mut late = UnixStream::connect(rig.path()).unwrap();
    rig.bench.run();
    assert!(ends(&mut late));
    hosts.clear();
    rig.bench.run();
    assert_eq!(rig.connections(), 0);
    rig.open();
}

#[test]
fn resets_for_strangers_are_bounded() {
    let mut rig = rig_with(0);
    for _ in 0..MAX_RESETS + 5 {
        rig.send(5, 6, Op::Data, 0, b"");
    }
    assert_eq!(rig.bench.counter("resets"), MAX_RESETS as u64);
    assert_eq!(rig.bench.counter("resets_dropped"), 5);
}

#[test]
fn reset_closes_everything_and_waits_for_the_next_driver() {
    let mut rig = rig();
    let (mut host, _) = rig.open();
    rig.bench.device().reset();
    rig.bench.run();
    assert!(ends(&mut host));
    assert_eq!(rig.connections(), 0);

    let mut early = UnixStream::connect(rig.path()).unwrap();
    early.write_all(b"CONNECT 1\n").unwrap();
    rig.bench.run();
    assert_eq!(rig.connections(), 0, "nobody is accepted without a driver");
    for queue in [&mut rig.rx, &mut rig.tx, &mut rig.events] {
        queue.restart();
    }
    rig.bench
        .activate(&rig.memory, &[&rig.rx, &rig.tx, &rig.events], 0);
    rig.offer_rx();
    rig.rx.kick();
    assert_eq!(rig.packet().0.op, Op::Request as u16);
}

#[test]
fn a_restored_guest_is_told_that_its_connections_are_gone() {
    let mut rig = rig();
    let (_, before) = rig.open();
    let state = rig.bench.device().state();
    let state: VsockState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    let other = VsockConfig {
        guest_cid: 8,
        ..config(&rig.dir)
    };
    assert!(matches!(
        Vsock::from_state(&other, &state),
        Err(VsockError::OtherCid { .. })
    ));

    rig.events.offer(&[Buffer::Writable(EVENT_BUFFER, 4)]);
    rig.events.offer(&[Buffer::Writable(EVENT_BUFFER + 4, 4)]);
    rig.memory
        .write_obj(u32::MAX, GuestAddress(EVENT_BUFFER))
        .unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let bench = Bench::new(Vsock::from_state(&config(&elsewhere), &state).unwrap());
    let mut activation = crate::devices::virtio::test_driver::activation(
        &rig.memory,
        &[&rig.rx, &rig.tx, &rig.events],
        &bench.interrupt,
        0,
    );
    activation.queues = state
        .queues
        .unwrap()
        .iter()
        .map(|queue| queue.restore().unwrap())
        .collect();
    bench.device().activate(activation).unwrap();
    rig.bench = bench;
    rig.bench.run();
    assert_eq!(rig.events.used(), vec![(0, 4)]);
    let event: u32 = rig.memory.read_obj(GuestAddress(EVENT_BUFFER)).unwrap();
    assert_eq!(event, 0);

    // It may still be ending connections of before: a new one waits until the event's buffer comes back.
    let mut host = UnixStream::connect(config(&elsewhere).uds_path).unwrap();
    host.write_all(b"CONNECT 1024\n").unwrap();
    assert!(rig.packets().is_empty());
    assert!(rig.bench.device().state().connections > 0, "still owed");
    rig.events.offer(&[Buffer::Writable(EVENT_BUFFER, 4)]);
    rig.events.kick();
    let request = rig.packet().0;
    assert_eq!(request.op, Op::Request as u16);
    // The guest's program may not have closed its end of the old one yet.
    assert!(request.src_port > before, "ports of an old connection");
}

#[test]
fn a_restored_guest_without_connections_is_told_nothing() {
    let mut rig = rig();
    rig.events.offer(&[Buffer::Writable(EVENT_BUFFER, 4)]);
    let state = rig.bench.device().state();
    assert_eq!(state.connections, 0);
    rig.bench.device().reset();
    rig.bench.device().owe(&state);
    rig.bench
        .activate(&rig.memory, &[&rig.rx, &rig.tx, &rig.events], 0);
    assert!(rig.events.used().is_empty());
    let mut host = UnixStream::connect(rig.path()).unwrap();
    host.write_all(b"CONNECT 1024\n").unwrap();
    rig.offer_rx();
    assert!(!rig.packets().is_empty());
}

#[test]
fn the_socket_goes_with_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let first = Vsock::new(&config).unwrap();
    assert!(matches!(
        Vsock::new(&config),
        Err(VsockError::Listen { .. })
    ));
    drop(first);
    assert!(!config.uds_path.exists());
    let long = VsockConfig {
        uds_path: PathBuf::from("/".to_owned() + &"x".repeat(97)),
        ..config
    };
    assert!(matches!(Vsock::new(&long), Err(VsockError::PathTooLong(_))));
}

#[test]
fn a_large_transfer_arrives_whole_in_both_directions() {
    const TOTAL: usize = 8 << 20;
    let mut rig = rig();
    rig.window = 256 << 10;
    let (host, port) = rig.open();
    let pattern = |at: usize| u8::try_from(at % 251).unwrap();
    let mut reader = host.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let bytes: Vec<u8> = (0..TOTAL).map(pattern).collect();
        (&host).write_all(&bytes).unwrap();
    });
    let reading = std::thread::spawn(move || {
        let mut bytes = vec![0; TOTAL];
        reader.read_exact(&mut bytes).unwrap();
        bytes
            .iter()
            .enumerate()
            .all(|(at, &byte)| byte == pattern(at))
    });
    let (mut got, mut sent, mut credit) = (0, 0, ROOMY_WINDOW as usize);
    while got < TOTAL || sent < TOTAL {
        let before = (got, sent);
        for (header, data) in rig.packets() {
            assert!(
                data.iter()
                    .enumerate()
                    .all(|(at, &byte)| byte == pattern(got + at))
            );
            got += data.len();
            credit = header.fwd_cnt as usize + header.buf_alloc as usize - sent;
        }
        let len = credit.min(TOTAL - sent).min(60_000);
        if len > 0 {
            let data: Vec<u8> = (sent..sent + len).map(pattern).collect();
            rig.send(PORT, port, Op::Data, 0, &data);
            sent += len;
            credit -= len;
        } else {
            rig.send(PORT, port, Op::CreditUpdate, 0, b"");
        }
        if before == (got, sent) {
            rig.bench.turn(10);
        }
    }
    writer.join().unwrap();
    assert!(reading.join().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever packets a guest sends to whatever ports, the device neither panics nor spins nor grows.
    #[test]
    fn hostile_packets_are_survived(
        packets in prop::collection::vec(
            (
                (0..9u16, 0..4u32, any::<bool>(), any::<bool>()),
                (prop_oneof![0..5000u32, any::<u32>()], 0..5000u32),
                (any::<u32>(), prop_oneof![0..10u32, any::<u32>()]),
                (0..3usize, 0..4u32),
            ),
            1..60,
        ),
    ) {
        let mut rig = rig();
        let _listener = UnixListener::bind(rig.dir.path().join("v.sock_3")).unwrap();
        let mut hosts = [rig.open(), rig.open()];
        hosts[0].0.write_all(&[1; 5000]).unwrap();
        for ((op, flags, to_open, honest), (len, actual), (buf_alloc, fwd_cnt), (which, port)) in packets {
            let (src_port, dst_port) = match hosts.get(which) {
                Some(&(_, host_port)) if to_open => (PORT, host_port),
                _ => (port, port),
            };
            let header = Header {
                src_cid: u64::from(CID) + u64::from(which == 2 && !honest),
                dst_cid: HOST_CID,
                src_port,
                dst_port,
                len: if honest { actual } else { len },
                kind: TYPE_STREAM,
                op,
                flags,
                buf_alloc,
                fwd_cnt: if honest { 0 } else { fwd_cnt },
            };
            rig.send_raw(&header, &vec![0; actual as usize]);
            rig.packets();
            prop_assert!(rig.connections() <= 2 + 60);
        }
        prop_assert!(!rig.bench.interrupt.needs_reset_raised());
    }
}
