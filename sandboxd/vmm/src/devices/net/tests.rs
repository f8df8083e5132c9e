use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::frame::{F_CSUM, F_HOST_TSO4, HEADER};
use super::*;
use crate::devices::virtio::test_driver::{BUFFERS, Bench, Buffer, DriverQueue, memory};
use crate::devices::virtio::{GuestMemory, VirtioDevice};

const MAC: Mac = Mac([6, 0, 0xa9, 0xfe, 0x64, 2]);
const GATEWAY: [u8; 6] = [6, 0, 0xa9, 0xfe, 0x64, 1];
const MRG_RXBUF: u64 = 1 << 15;
const EVENT_IDX: u64 = 1 << 29;
const RX_BUFFERS: u64 = BUFFERS + 0x10_0000;

/// A pair of datagram sockets keeps frames apart as a TAP does.
struct Wire {
    device: UnixDatagram,
    offloads: Arc<Mutex<Option<Offloads>>>,
}

impl FrameIo for Wire {
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        *self.offloads.lock().unwrap() = Some(offloads);
        Ok(())
    }

    fn mtu(&self) -> u16 {
        1400
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

struct Rig {
    memory: Arc<GuestMemory>,
    rx: DriverQueue,
    tx: DriverQueue,
    bench: Bench<Net<Wire>>,
    wire: UnixDatagram,
    offloads: Arc<Mutex<Option<Offloads>>>,
}

fn rig(features: u64) -> Rig {
    let (wire, device) = UnixDatagram::pair().unwrap();
    wire.set_nonblocking(true).unwrap();
    device.set_nonblocking(true).unwrap();
    let offloads = Arc::default();
    let tap = Wire {
        device,
        offloads: Arc::clone(&offloads),
    };
    let memory = memory(4);
    let mut rx = DriverQueue::new(&memory, 0, QUEUE_SIZE);
    rx.event_idx = features & EVENT_IDX != 0;
    let tx = DriverQueue::new(&memory, 1, QUEUE_SIZE);
    let mut bench = Bench::new(Net::new(MAC, tap).unwrap());
    bench.activate(&memory, &[&rx, &tx], features);
    Rig {
        memory,
        rx,
        tx,
        bench,
        wire,
        offloads,
    }
}

/// A frame with an empty header.
fn frame(from: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend(GATEWAY);
    frame.extend(from);
    frame.extend([8, 0]);
    frame.extend(payload);
    frame
}

impl Rig {
    fn transmit(&mut self, frame: &[u8]) {
        self.memory
            .write_slice(frame, GuestAddress(BUFFERS))
            .unwrap();
        let len = u32::try_from(frame.len()).unwrap();
        // The border of the two buffers lies within the addresses.
        let cut = len.min(20);
        self.tx.offer(&[
            Buffer::Readable(BUFFERS, cut),
            Buffer::Readable(BUFFERS + u64::from(cut), len - cut),
        ]);
        self.tx.kick();
        self.bench.run();
        assert_eq!(self.tx.used().len(), 1, "every frame's buffer comes back");
    }

    /// What came out at the other end of the wire.
    fn sent(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buf = vec![0; FRAME_MAX as usize];
        while let Ok(len) = self.wire.recv(&mut buf) {
            frames.push(buf[..len].to_vec());
        }
        frames
    }

    fn offer_rx(&mut self, index: u64, len: u32) -> u16 {
        self.rx
            .offer(&[Buffer::Writable(RX_BUFFERS + index * 0x1000, len)])
    }

    fn received(&self, index: u64, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.memory
            .read_slice(&mut bytes, GuestAddress(RX_BUFFERS + index * 0x1000))
            .unwrap();
        bytes
    }
}

#[test]
fn frames_leave_as_they_are() {
    let mut rig = rig(F_CSUM);
    let ours = frame(MAC.0, b"ping");
    rig.transmit(&ours);
    assert_eq!(rig.sent(), [ours]);
    assert_eq!(rig.bench.counter("tx_bytes"), 18);
}

#[test]
fn frames_of_other_senders_do_not_leave() {
    let mut rig = rig(0);
    rig.transmit(&frame(GATEWAY, b"I am the gateway"));
    assert!(rig.sent().is_empty());
    assert_eq!(rig.bench.counter("spoofed"), 1);
}

#[test]
fn offloads_that_were_not_agreed_on_do_not_leave() {
    let mut segmented = frame(MAC.0, &[0; 3000]);
    segmented[1] = 1;
    let mut rig = rig(F_CSUM);
    rig.transmit(&segmented);
    assert!(rig.sent().is_empty());
    assert_eq!(rig.bench.counter("refused"), 1);
    let mut rig = self::rig(F_CSUM | F_HOST_TSO4);
    rig.transmit(&segmented);
    assert_eq!(rig.sent(), [segmented]);
}

#[test]
fn chains_that_hold_no_frame_are_given_back() {
    let mut rig = rig(0);
    rig.transmit(&frame(MAC.0, b"")[..HEADER + 13]);
    rig.tx.offer(&[
        Buffer::Readable(BUFFERS, 100),
        Buffer::Writable(BUFFERS, 100),
    ]);
    rig.tx.kick();
    rig.bench.run();
    assert_eq!(rig.tx.used().len(), 1);
    assert!(rig.sent().is_empty());
    assert_eq!(rig.bench.counter("malformed"), 2);
}

#[test]
fn a_full_wire_drops_frames_and_does_not_stall() {
    let mut rig = rig(0);
    let ours = frame(MAC.0, &[0; 40_000]);
    for _ in 0..40 {
        rig.transmit(&ours);
    }
    assert!(rig.bench.counter("tx_dropped") > 0);
    assert_eq!(
        rig.bench.counter("tx_dropped") + rig.bench.counter("tx_frames"),
        40
    );
}

#[test]
fn a_frame_goes_into_one_buffer() {
    let mut rig = rig(0);
    let head = rig.offer_rx(0, 2048);
    let theirs = frame(GATEWAY, b"pong");
    rig.wire.send(&theirs).unwrap();
    rig.bench.run();
    let len = u32::try_from(theirs.len()).unwrap();
    assert_eq!(rig.rx.used(), [(head, len)]);
    let got = rig.received(0, len);
    assert_eq!(got[HEADER..], theirs[HEADER..]);
    assert_eq!(got[10..12], [1, 0], "num_buffers");
    assert_eq!(rig.bench.interrupt.count(), 1);
}

#[test]
fn a_large_frame_is_spread_over_mergeable_buffers() {
    let mut rig = rig(MRG_RXBUF);
    let heads: Vec<u16> = (0..4).map(|index| rig.offer_rx(index, 1000)).collect();
    let payload: Vec<u8> = (0..2500)
        .map(|at| u8::try_from(at % 256).unwrap())
        .collect();
    let theirs = frame(GATEWAY, &payload);
    rig.wire.send(&theirs).unwrap();
    rig.bench.run();
    let rest = u32::try_from(theirs.len()).unwrap() - 2000;
    assert_eq!(
        rig.rx.used(),
        [(heads[0], 1000), (heads[1], 1000), (heads[2], rest)]
    );
    let mut got = rig.received(0, 1000);
    assert_eq!(got[10..12], [3, 0], "num_buffers");
    got.extend(rig.received(1, 1000));
    got.extend(rig.received(2, rest));
    assert_eq!(got[HEADER..], theirs[HEADER..]);
}

#[test]
fn without_mergeable_buffers_a_frame_that_does_not_fit_is_dropped() {
    let mut rig = rig(0);
    let head = rig.offer_rx(0, 100);
    rig.wire.send(&frame(GATEWAY, &[1; 200])).unwrap();
    rig.wire.send(&frame(GATEWAY, &[2; 20])).unwrap();
    rig.bench.run();
    assert_eq!(rig.rx.used(), [(head, 46)]);
    assert_eq!(rig.bench.counter("rx_dropped"), 1);
}

#[test]
fn a_frame_waits_for_buffers_without_spinning() {
    let mut rig = rig(MRG_RXBUF | EVENT_IDX);
    rig.offer_rx(0, 64);
    rig.wire.send(&frame(GATEWAY, &[3; 100])).unwrap();
    rig.bench.run();
    assert!(rig.rx.used().is_empty());
    assert_eq!(rig.bench.turn(0), 0, "nothing is pending");
    assert_eq!(
        rig.rx.avail_event(),
        1,
        "the next buffer is notified, not one that was there"
    );
    rig.offer_rx(1, 64);
    rig.rx.kick();
    rig.bench.run();
    assert_eq!(rig.rx.used(), [(0, 64), (1, 62)]);
    assert_eq!(rig.bench.counter("rx_waits"), 1);
}

#[test]
fn a_buffer_without_room_for_the_header_costs_the_frame() {
    let mut rig = rig(MRG_RXBUF);
    rig.offer_rx(0, 11);
    rig.offer_rx(1, 200);
    rig.wire.send(&frame(GATEWAY, b"lost")).unwrap();
    rig.wire.send(&frame(GATEWAY, b"found")).unwrap();
    rig.bench.run();
    assert_eq!(rig.rx.used(), [(0, 0), (1, 31)]);
}

#[test]
fn the_work_per_event_is_bounded() {
    let mut rig = rig(0);
    for index in 0..QUEUE_SIZE {
        rig.offer_rx(u64::from(index), 0x1000);
    }
    let mut all = 0;
    while all < 200 && rig.wire.send(&frame(GATEWAY, &[0; 64])).is_ok() {
        all += 1;
    }
    rig.bench.run();
    assert_eq!(rig.rx.used().len(), all);
    for _ in 0..QUEUE_SIZE {
        rig.tx.offer(&[Buffer::Readable(BUFFERS, 60_000)]);
    }
    rig.tx.kick();
    rig.bench.turn(0);
    let first = rig.tx.used().len();
    assert_eq!(first as u64, EVENT_BUDGET.div_ceil(60_000));
    rig.bench.run();
    assert_eq!(first + rig.tx.used().len(), usize::from(QUEUE_SIZE));
}

#[test]
fn offloads_are_what_the_driver_agreed_to() {
    let rig = rig(1 << 1 | 1 << 7);
    let expected = Offloads {
        checksum: true,
        tso4: true,
        tso6: false,
    };
    assert_eq!(*rig.offloads.lock().unwrap(), Some(expected));
}

#[test]
fn the_configuration_tells_address_and_mtu() {
    let rig = rig(0);
    let mut bytes = [0xff; 14];
    rig.bench.device().read_config(0, &mut bytes);
    assert_eq!(bytes[..6], MAC.0);
    assert_eq!(bytes[6..], [0, 0, 0, 0, 0x78, 5, 0, 0]);
}

#[test]
fn reset_forgets_the_queues_and_the_frame_that_waits() {
    let mut rig = rig(0);
    rig.wire.send(&frame(GATEWAY, b"waits")).unwrap();
    rig.bench.run();
    rig.bench.device().reset();
    rig.wire.send(&frame(GATEWAY, b"comes late")).unwrap();
    rig.bench.run();
    rig.rx.restart();
    rig.tx.restart();
    rig.bench.activate(&rig.memory, &[&rig.rx, &rig.tx], 0);
    rig.offer_rx(0, 2048);
    rig.rx.kick();
    rig.bench.run();
    let used = rig.rx.used();
    assert_eq!(used.len(), 1);
    let got = rig.received(0, used[0].1);
    assert!(got.ends_with(b"comes late"));
}

#[test]
fn the_saved_form_holds_address_mtu_and_queues() {
    let mut rig = rig(0);
    rig.transmit(&frame(MAC.0, b"one"));
    let state = rig.bench.device().state();
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<NetState>(&text).unwrap(), state);
    assert_eq!((state.mac, state.mtu), (MAC, 1400));
    assert_eq!(state.queues.unwrap()[1].next_used, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever buffers a driver offers, chains come back at most once, frames never get mixed up, and nothing of another
    /// sender leaves.
    #[test]
    fn hostile_drivers_are_survived(
        mergeable: bool,
        receive in prop::collection::vec(
            prop::collection::vec((any::<bool>(), 0..5u64 << 20, prop_oneof![0..3000u32, any::<u32>()]), 1..4),
            0..20,
        ),
        transmit in prop::collection::vec(
            prop::collection::vec((any::<bool>(), BUFFERS..5 << 20, prop_oneof![0..3000u32, any::<u32>()]), 1..4),
            0..10,
        ),
        frames in prop::collection::vec(1..3000usize, 0..10),
    ) {
        let mut rig = rig(if mergeable { MRG_RXBUF } else { 0 });
        let buffer = |&(good, addr, len): &(bool, u64, u32), write: bool| match write == good {
            // The rings themselves are spared: a driver that overwrites those has no rights left to test.
            true => Buffer::Writable(addr.max(BUFFERS), len),
            false => Buffer::Readable(addr.max(BUFFERS), len),
        };
        let offered = receive.len();
        for chain in &receive {
            rig.rx.offer(&chain.iter().map(|part| buffer(part, true)).collect::<Vec<_>>());
        }
        for len in frames {
            rig.wire.send(&frame(GATEWAY, &vec![0xab; len])).unwrap();
        }
        for chain in &transmit {
            rig.tx.offer(&chain.iter().map(|part| buffer(part, false)).collect::<Vec<_>>());
        }
        rig.rx.kick();
        rig.tx.kick();
        rig.bench.run();
        let mut heads: Vec<u16> = rig.rx.used().iter().map(|used| used.0).collect();
        prop_assert!(heads.len() <= offered);
        let before = heads.len();
        heads.sort_unstable();
        heads.dedup();
        prop_assert_eq!(heads.len(), before, "no chain comes back twice");
        prop_assert_eq!(rig.tx.used().len(), transmit.len());
        for sent in rig.sent() {
            prop_assert_eq!(&sent[18..24], &MAC.0);
        }
        prop_assert!(!rig.bench.interrupt.needs_reset_raised());
    }
}
