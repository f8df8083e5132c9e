use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::config::DiskConfig;
use crate::devices::virtio::test_driver::{BUFFERS, Bench, Buffer, DriverQueue, memory};
use crate::devices::virtio::{GuestMemory, VirtioDevice};

const DISK: u64 = 1 << 20;
const HEADER_AT: u64 = BUFFERS;
const STATUS_AT: u64 = BUFFERS + 0x20;
const DATA_AT: u64 = BUFFERS + 0x1000;
const UNTOUCHED: u8 = 0xee;

struct Rig {
    dir: TempDir,
    memory: Arc<GuestMemory>,
    queue: DriverQueue,
    bench: Bench<Block>,
}

fn pattern(len: u64) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from(at / SECTOR % 251).unwrap() ^ 0x5a)
        .collect()
}

fn image(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("base.img");
    std::fs::write(&path, pattern(DISK)).unwrap();
    path
}

fn config(dir: &TempDir, writable: bool) -> DiskConfig {
    DiskConfig {
        id: "disk-0".into(),
        path: image(dir),
        read_only: !writable,
        overlay: writable.then(|| dir.path().join("overlay.cow")),
        overlay_max_bytes: None,
        snapshot: None,
    }
}

fn rig(writable: bool) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let memory = memory(32);
    let queue = DriverQueue::new(&memory, 0, QUEUE_SIZE);
    let mut bench = Bench::new(Block::open(&config(&dir, writable), u64::MAX).unwrap());
    bench.activate(&memory, &[&queue], 0);
    Rig {
        dir,
        memory,
        queue,
        bench,
    }
}

impl Rig {
    fn header(&self, kind: u32, sector: u64) -> Buffer {
        self.memory
            .write_obj([kind, 0], GuestAddress(HEADER_AT))
            .unwrap();
        self.memory
            .write_obj(sector, GuestAddress(HEADER_AT + 8))
            .unwrap();
        self.memory
            .write_obj(UNTOUCHED, GuestAddress(STATUS_AT))
            .unwrap();
        Buffer::Readable(HEADER_AT, 16)
    }

    /// Offers a request, runs the device, and returns its status and the used length.
    fn request(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
        let mut chain = vec![self.header(kind, sector)];
        chain.extend(data);
        chain.push(Buffer::Writable(STATUS_AT, 1));
        self.raw(&chain)
    }

    fn raw(&mut self, chain: &[Buffer]) -> (u8, u32) {
        let head = self.queue.offer(chain);
        self.queue.kick();
        self.bench.run();
        let used = self.queue.used();
        assert_eq!(used.len(), 1);
        assert_eq!(used[0].0, head);
        (
            self.memory.read_obj(GuestAddress(STATUS_AT)).unwrap(),
            used[0].1,
        )
    }

    fn read(&mut self, sector: u64, len: u32) -> Vec<u8> {
        let answer = self.request(0, sector, &[Buffer::Writable(DATA_AT, len)]);
        assert_eq!(answer, (0, len + 1));
        let mut data = vec![0; len as usize];
        self.memory
            .read_slice(&mut data, GuestAddress(DATA_AT))
            .unwrap();
        data
    }

    fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.memory
            .write_slice(data, GuestAddress(DATA_AT))
            .unwrap();
        let len = u32::try_from(data.len()).unwrap();
        self.request(1, sector, &[Buffer::Readable(DATA_AT, len)]).0
    }

    fn erase(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) -> u8 {
        self.memory
            .write_obj(sector, GuestAddress(DATA_AT))
            .unwrap();
        self.memory
            .write_obj([sectors, flags], GuestAddress(DATA_AT + 8))
            .unwrap();
        self.request(kind, 0, &[Buffer::Readable(DATA_AT, 16)]).0
    }
}

#[test]
fn a_raw_disk_is_read_and_never_written() {
    let mut rig = rig(false);
    assert_eq!(rig.read(3, 2048), &pattern(DISK)[3 * 512..][..2048]);
    assert_eq!(rig.write(3, &[1; 512]), 1);
    assert_eq!(rig.erase(13, 0, 8, 0), 2);
    assert_eq!(
        std::fs::read(rig.dir.path().join("base.img")).unwrap(),
        pattern(DISK)
    );
    assert_ne!(
        rig.bench.device().features() & (1 << 5),
        0,
        "VIRTIO_BLK_F_RO"
    );
}

#[test]
fn a_read_scatters_over_segments() {
    let mut rig = rig(false);
    let parts = [
        Buffer::Writable(DATA_AT, 100),
        Buffer::Writable(DATA_AT + 0x1000, 0),
        Buffer::Writable((16 << 20) - 12, 412),
    ];
    assert_eq!(rig.request(0, 1, &parts), (0, 513));
    let mut data = [0; 512];
    rig.memory
        .read_slice(&mut data[..100], GuestAddress(DATA_AT))
        .unwrap();
    rig.memory
        .read_slice(&mut data[100..], GuestAddress((16 << 20) - 12))
        .unwrap();
    assert_eq!(data, pattern(DISK)[512..1024]);
}

#[test]
fn header_and_status_may_be_split_or_joined_to_data() {
    let mut rig = rig(false);
    rig.header(0, 2);
    let answer = rig.raw(&[
        Buffer::Readable(HEADER_AT, 5),
        Buffer::Readable(HEADER_AT + 5, 11),
        Buffer::Writable(DATA_AT, 513),
    ]);
    assert_eq!(answer.1, 513);
    let status: u8 = rig.memory.read_obj(GuestAddress(DATA_AT + 512)).unwrap();
    assert_eq!(status, 0);
}

#[test]
fn writes_go_to_the_overlay_and_are_read_back() {
    let mut rig = rig(true);
    assert_eq!(rig.write(8, &[7; 8192]), 0);
    assert_eq!(rig.write(25, &[9; 512]), 0);
    let mut expected = pattern(DISK);
    expected[8 * 512..][..8192].fill(7);
    expected[25 * 512..][..512].fill(9);
    assert_eq!(rig.read(0, 64 << 10), &expected[..64 << 10]);
    assert_eq!(
        std::fs::read(rig.dir.path().join("base.img")).unwrap(),
        pattern(DISK)
    );
    assert_eq!(rig.request(4, 0, &[]), (0, 1), "flush");
    assert_eq!(rig.bench.counter("writes"), 2);
    assert_eq!(rig.bench.counter("overlay_bytes"), (64 << 10) + 3 * 4096);
}

#[test]
fn zeroes_and_discards_free_the_host_s_bytes() {
    let mut rig = rig(true);
    assert_eq!(rig.write(0, &[7; 16384]), 0);
    assert_eq!(rig.erase(11, 0, 16, 0), 0);
    assert_eq!(rig.read(0, 8192), vec![0; 8192]);
    assert_eq!(rig.erase(13, 20, 100, 1), 0);
    assert_eq!(rig.read(20, 51200), vec![0; 51200]);
    assert_eq!(rig.read(16, 2048), vec![7; 2048]);
    assert_eq!(rig.erase(11, 0, 16, 1), 2, "a discard has no flags");
    assert_eq!(rig.erase(13, DISK / 512 - 1, 2, 0), 1);
    assert_eq!(rig.bench.counter("erased_bytes"), 16 * 512 + 100 * 512);
}

#[test]
fn the_name_is_told() {
    let mut rig = rig(false);
    assert_eq!(rig.request(8, 0, &[Buffer::Writable(DATA_AT, 20)]), (0, 21));
    let mut name = [1; 20];
    rig.memory
        .read_slice(&mut name, GuestAddress(DATA_AT))
        .unwrap();
    assert_eq!(&name, b"disk-0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(
        rig.request(8, 0, &[Buffer::Writable(DATA_AT, 4)]),
        (0, 5),
        "a short buffer"
    );
}

#[test]
fn requests_without_a_header_or_status_are_given_back() {
    let mut rig = rig(true);
    rig.header(0, 0);
    let cut = [
        Buffer::Readable(HEADER_AT, 15),
        Buffer::Writable(STATUS_AT, 1),
    ];
    assert_eq!(rig.raw(&cut), (UNTOUCHED, 0));
    assert_eq!(rig.raw(&[Buffer::Readable(HEADER_AT, 16)]), (UNTOUCHED, 0));
    assert_eq!(rig.raw(&[Buffer::Writable(STATUS_AT, 1)]), (UNTOUCHED, 0));
    assert_eq!(rig.bench.counter("malformed"), 3);
    assert_eq!(
        rig.read(0, 512),
        &pattern(DISK)[..512],
        "the device goes on"
    );
}

#[test]
fn a_request_that_is_too_large_is_given_back() {
    let mut rig = rig(false);
    rig.header(0, 0);
    let huge = [
        Buffer::Readable(HEADER_AT, 16),
        Buffer::Writable(DATA_AT, REQUEST_MAX + 512),
        Buffer::Writable(STATUS_AT, 1),
    ];
    assert_eq!(rig.raw(&huge), (UNTOUCHED, 0));
    let many = vec![Buffer::Writable(DATA_AT, 512); SEG_MAX as usize + 2];
    assert_eq!(rig.request(0, 0, &many).1, 0);
}

#[test]
fn the_work_per_event_is_bounded() {
    let mut rig = rig(false);
    let mut chain = vec![rig.header(0, 0)];
    chain.push(Buffer::Writable(DATA_AT, 1 << 20));
    chain.push(Buffer::Writable(STATUS_AT, 1));
    for _ in 0..20 {
        rig.queue.offer(&chain);
    }
    rig.queue.kick();
    rig.bench.turn(0);
    assert_eq!(rig.queue.used().len(), 8);
    rig.bench.run();
    assert_eq!(rig.queue.used().len(), 12);
    assert_eq!(rig.bench.counter("yields"), 2);
}

#[test]
fn the_ceiling_stops_the_guest_and_not_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let memory = memory(32);
    let queue = DriverQueue::new(&memory, 0, QUEUE_SIZE);
    let ceiling = (64 << 10) + 2 * 4096;
    let mut bench = Bench::new(Block::open(&config(&dir, true), ceiling).unwrap());
    bench.activate(&memory, &[&queue], 0);
    let mut rig = Rig {
        dir,
        memory,
        queue,
        bench,
    };
    assert_eq!(rig.write(0, &[1; 8192]), 0);
    assert_eq!(rig.write(16, &[2; 512]), 1);
    assert_eq!(
        rig.write(0, &[3; 8192]),
        0,
        "what is there can still be changed"
    );
    assert_eq!(rig.erase(11, 0, 8, 0), 0);
    assert_eq!(
        rig.write(16, &[2; 4096]),
        0,
        "what was given back can be used again"
    );
    assert_eq!(rig.bench.counter("no_space"), 1);
    assert_eq!(rig.bench.counter("overlay_bytes"), ceiling);
}

#[test]
fn reset_forgets_the_queue_but_not_the_disk() {
    let mut rig = rig(true);
    assert_eq!(rig.write(0, &[1; 512]), 0);
    rig.bench.device().reset();
    let chain = [rig.header(0, 0), Buffer::Writable(STATUS_AT, 1)];
    rig.queue.offer(&chain);
    rig.queue.kick();
    rig.bench.run();
    assert!(rig.queue.used().is_empty());

    rig.queue.restart();
    rig.bench.activate(&rig.memory, &[&rig.queue], 0);
    assert_eq!(rig.read(0, 512), vec![1; 512]);
}

#[test]
fn the_configuration_is_the_specification_s() {
    let rig = rig(true);
    let device = rig.bench.device();
    let mut bytes = [0xff; 64];
    device.read_config(0, &mut bytes);
    assert_eq!(
        u64::from_le_bytes(bytes[..8].try_into().unwrap()),
        DISK / 512
    );
    assert_eq!(
        u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
        SIZE_MAX
    );
    assert_eq!(
        u32::from_le_bytes(bytes[12..16].try_into().unwrap()),
        u32::from(SEG_MAX)
    );
    assert_eq!(bytes[24], 3);
    assert_eq!(
        u32::from_le_bytes(bytes[44..48].try_into().unwrap()),
        8,
        "discard unit"
    );
    assert_eq!(bytes[60..], [0; 4]);
    let mut past = [1; 4];
    device.read_config(u64::MAX, &mut past);
    assert_eq!(past, [0; 4]);
    assert_eq!(
        device.features(),
        1 << 1 | 1 << 2 | 1 << 9 | 1 << 10 | 1 << 13 | 1 << 14 | 1 << 29
    );
}

#[test]
fn a_saved_disk_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir, true);
    let state = Block::open(&config, u64::MAX).unwrap().state();
    let text = serde_json::to_string(&state).unwrap();
    let state: BlockState = serde_json::from_str(&text).unwrap();
    assert_eq!(
        Block::from_state(&config, &[], u64::MAX, &state)
            .unwrap()
            .state(),
        state
    );
    let other = BlockState { size: 512, ..state };
    let refused = Block::from_state(&config, &[], u64::MAX, &other)
        .err()
        .unwrap();
    assert!(
        refused.to_string().contains("its size differs"),
        "{refused}"
    );
}

#[test]
fn images_that_are_no_disks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: PathBuf, read_only| {
        let config = DiskConfig {
            id: "d".into(),
            path,
            read_only,
            overlay: None,
            overlay_max_bytes: None,
            snapshot: None,
        };
        Block::open(&config, u64::MAX).err().unwrap()
    };
    let empty = dir.path().join("empty");
    std::fs::write(&empty, [0; 511]).unwrap();
    assert!(matches!(open(empty, true), BlockError::Empty(_)));
    assert!(matches!(
        open(dir.path().to_owned(), true),
        BlockError::Empty(_)
    ));
    assert!(matches!(
        open(dir.path().join("none"), true),
        BlockError::Image { .. }
    ));
    assert!(matches!(open(image(&dir), false), BlockError::NoOverlay(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever chains a driver offers, each comes back once, and the base file never changes.
    #[test]
    fn hostile_chains_come_back_once(
        chains in prop::collection::vec(
            (
                0..16u32,
                prop_oneof![0..2048u64, any::<u64>()],
                prop::collection::vec(
                    (
                        any::<bool>(),
                        prop_oneof![Just(DATA_AT), 0..33u64 << 20, any::<u64>()],
                        prop_oneof![0..9u32, 500..600u32, any::<u32>()],
                    ),
                    0..5,
                ),
            ),
            1..8,
        ),
    ) {
        let mut rig = rig(true);
        for (kind, sector, buffers) in chains {
            let mut chain = vec![rig.header(kind, sector)];
            chain.extend(buffers.into_iter().map(|(write, addr, len)| match write {
                // The rings themselves are spared: a driver that overwrites those has no rights left to test.
                true => Buffer::Writable(addr.max(DATA_AT), len),
                false => Buffer::Readable(addr, len),
            }));
            let head = rig.queue.offer(&chain);
            rig.queue.kick();
            rig.bench.run();
            let used = rig.queue.used();
            prop_assert_eq!(used.len(), 1);
            prop_assert_eq!(used[0].0, head);
        }
        prop_assert!(!rig.bench.interrupt.needs_reset_raised());
        prop_assert_eq!(std::fs::read(rig.dir.path().join("base.img")).unwrap(), pattern(DISK));
    }
}
