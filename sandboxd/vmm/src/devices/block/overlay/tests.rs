use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::devices::block::BackendError;
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::{Chain, Limits};
use crate::devices::virtio::test_driver::{BUFFERS, Buffer, DriverQueue, memory};

/// Not a multiple of the cluster: the last cluster is cut short.
const DISK: usize = (256 << 10) + 1536;
const CLUSTER: usize = 4096;
const HEAD: u64 = 64 << 10;
const LIMITS: Limits = Limits {
    descriptors: 64,
    bytes: 1 << 20,
};

struct Files {
    _dir: TempDir,
    base: PathBuf,
    overlay: PathBuf,
}

fn base_bytes() -> Vec<u8> {
    (0..DISK)
        .map(|at| u8::try_from(at * 7 / 512 % 255 + 1).unwrap())
        .collect()
}

fn files() -> Files {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    std::fs::write(&base, base_bytes()).unwrap();
    let overlay = dir.path().join("overlay");
    Files {
        _dir: dir,
        base,
        overlay,
    }
}

impl Files {
    fn open(&self) -> Result<Overlay, OverlayError> {
        self.open_with(u64::MAX)
    }

    fn open_with(&self, ceiling: u64) -> Result<Overlay, OverlayError> {
        Overlay::open(&self.overlay, RawFile::open(&self.base).unwrap(), ceiling)
    }
}

/// A disk's client: moves bytes through guest memory, in segments of odd lengths.
struct Client {
    memory: std::sync::Arc<GuestMemory>,
    queue: DriverQueue,
}

impl Client {
    fn new() -> Self {
        let memory = memory(4);
        let queue = DriverQueue::new(&memory, 0, 64);
        Self { memory, queue }
    }

    fn chain(&mut self, len: usize, writable: bool) -> Chain {
        let mut buffers = Vec::new();
        let (mut at, mut left, mut part) = (BUFFERS, u32::try_from(len).unwrap(), 700);
        while left > 0 {
            let len = left.min(part);
            buffers.push(if writable {
                Buffer::Writable(at, len)
            } else {
                Buffer::Readable(at, len)
            });
            at += u64::from(len);
            left -= len;
            part = part * 3 + 11;
        }
        let head = self.queue.offer(&buffers);
        let mut chain = Chain::default();
        chain
            .walk(&self.memory, GuestAddress(0), 64, head, LIMITS)
            .unwrap();
        chain
    }

    fn read(&mut self, disk: &Overlay, at: usize, len: usize) -> Vec<u8> {
        let chain = self.chain(len, true);
        let poison = vec![0xdd; len];
        self.memory
            .write_slice(&poison, GuestAddress(BUFFERS))
            .unwrap();
        disk.read(
            &self.memory,
            &chain.writable,
            u32::try_from(len).unwrap(),
            at as u64,
        )
        .unwrap();
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(BUFFERS))
            .unwrap();
        bytes
    }

    fn write(&mut self, disk: &mut Overlay, at: usize, bytes: &[u8]) -> Result<(), BackendError> {
        self.memory
            .write_slice(bytes, GuestAddress(BUFFERS))
            .unwrap();
        let chain = self.chain(bytes.len(), false);
        let len = u32::try_from(bytes.len()).unwrap();
        disk.write(&self.memory, &chain.readable, 0, len, at as u64)
    }
}

#[test]
fn a_fresh_overlay_shows_the_base_and_takes_no_space() {
    let files = files();
    let disk = files.open().unwrap();
    assert_eq!(Client::new().read(&disk, 0, DISK), base_bytes());
    assert_eq!(disk.bytes(), HEAD);
    let metadata = std::fs::metadata(&files.overlay).unwrap();
    assert_eq!(metadata.len(), HEAD + 65 * 4096);
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777,
        0o600
    );
}

#[test]
fn a_partial_write_copies_the_rest_of_its_cluster_up() {
    let files = files();
    let (mut disk, mut client) = (files.open().unwrap(), Client::new());
    client.write(&mut disk, 4096 + 512, &[0xaa; 512]).unwrap();
    let mut expected = base_bytes();
    expected[4096 + 512..][..512].fill(0xaa);
    assert_eq!(client.read(&disk, 0, DISK), expected);
    assert_eq!(disk.map.data_clusters(), 1);
}

#[test]
fn what_was_flushed_is_there_after_reopening() {
    let files = files();
    let mut client = Client::new();
    {
        let mut disk = files.open().unwrap();
        client.write(&mut disk, 8192, &[1; 4096]).unwrap();
        disk.write_zeroes(16384, 4096).unwrap();
        disk.flush().unwrap();
        client.write(&mut disk, 0, &[2; 4096]).unwrap();
    }
    let disk = files.open().unwrap();
    let mut expected = base_bytes();
    expected[8192..][..4096].fill(1);
    expected[16384..][..4096].fill(0);
    assert_eq!(
        client.read(&disk, 0, DISK),
        expected,
        "the last write was never flushed"
    );
    assert_eq!(disk.map.data_clusters(), 1);
}

#[test]
fn damage_and_mixed_up_files_are_refused() {
    let make = || {
        let files = files();
        let mut disk = files.open().unwrap();
        Client::new().write(&mut disk, 0, &[1; 4096]).unwrap();
        disk.flush().unwrap();
        files
    };
    let refused = |change: &dyn Fn(&Files)| {
        let files = make();
        change(&files);
        files.open().err().unwrap().to_string()
    };
    let poke = |files: &Files, at: u64, byte: u8| {
        let file = OpenOptions::new().write(true).open(&files.overlay).unwrap();
        file.write_all_at(&[byte], at).unwrap();
    };
    let sentences = [
        refused(&|files| poke(files, 0, b'x')),
        refused(&|files| poke(files, 8, 9)),
        refused(&|files| poke(files, 20, 9)),
        refused(&|files| poke(files, 4096 + 3, 1)),
        refused(&|files| std::fs::write(&files.overlay, "short").unwrap()),
        refused(&|files| {
            let file = OpenOptions::new().write(true).open(&files.overlay).unwrap();
            file.set_len(100_000).unwrap();
        }),
        refused(&|files| {
            let mut bytes = base_bytes();
            bytes[DISK / 2] ^= 1;
            std::fs::write(&files.base, bytes).unwrap();
        }),
        refused(&|files| std::fs::write(&files.base, &base_bytes()[..DISK - 512]).unwrap()),
    ];
    insta::assert_snapshot!(sentences.join("\n"), @r"
    it is not an overlay of ours: its magic bytes are missing
    it has format version 9, but this program reads version 1
    its header is damaged: the checksum does not match
    page 0 of its map is damaged: the checksum does not match
    it is not an overlay of ours: its magic bytes are missing
    it is cut short: 100000 of 331776 bytes
    it was made for another base file, or the base file has changed since
    it was made for another base file, or the base file has changed since
    ");
}

#[test]
fn an_overlay_has_one_user() {
    let files = files();
    let _first = files.open().unwrap();
    assert!(matches!(files.open(), Err(OverlayError::InUse)));
}

#[test]
fn a_ceiling_without_room_for_a_cluster_is_refused() {
    let files = files();
    let least = HEAD + 4096;
    let refused = files.open_with(least - 1);
    assert!(matches!(refused, Err(OverlayError::Ceiling { .. })));
    assert!(files.open_with(least).is_ok());
}

#[test]
fn the_ceiling_counts_copied_clusters_before_they_are_written() {
    let files = files();
    let mut disk = files.open_with(HEAD + 2 * 4096).unwrap();
    let mut client = Client::new();
    client.write(&mut disk, 512, &[1; 512]).unwrap();
    client
        .write(&mut disk, 9000 / 512 * 512, &[1; 512])
        .unwrap();
    let full = client.write(&mut disk, 40960, &[1; 512]).unwrap_err();
    assert!(full.is_no_space(), "{full}");
    assert!(
        client
            .write(&mut disk, 40960, &[1; 8192])
            .unwrap_err()
            .is_no_space()
    );
    assert!(disk.write_zeroes(40960, 512).unwrap_err().is_no_space());
    disk.write_zeroes(40960, 4096).unwrap();
    assert_eq!(disk.bytes(), HEAD + 2 * 4096);
}

#[test]
fn zeroed_data_gives_its_blocks_back() {
    use std::os::unix::fs::MetadataExt;
    let files = files();
    let (mut disk, mut client) = (files.open().unwrap(), Client::new());
    client.write(&mut disk, 0, &vec![1; 128 << 10]).unwrap();
    disk.flush().unwrap();
    let before = std::fs::metadata(&files.overlay).unwrap().blocks();
    disk.discard(0, 128 << 10).unwrap();
    disk.flush().unwrap();
    let after = std::fs::metadata(&files.overlay).unwrap().blocks();
    assert!(
        after + 250 <= before,
        "{before} blocks before, {after} after"
    );
    assert_eq!(client.read(&disk, 0, 128 << 10), vec![0; 128 << 10]);
}

#[derive(Clone, Debug)]
enum Action {
    Write(usize, usize, u8),
    Zero(usize, usize),
    Discard(usize, usize),
    Flush,
    Reopen,
}

fn actions() -> impl Strategy<Value = Action> {
    const SECTORS: usize = DISK / 512;
    let range = (0..SECTORS)
        .prop_flat_map(|from| (Just(from), 1..=(SECTORS - from).min(80)))
        .prop_map(|(from, count)| (from * 512, count * 512));
    prop_oneof![
        4 => (range.clone(), any::<u8>()).prop_map(|((at, len), byte)| Action::Write(at, len, byte)),
        2 => range.clone().prop_map(|(at, len)| Action::Zero(at, len)),
        1 => range.prop_map(|(at, len)| Action::Discard(at, len)),
        1 => Just(Action::Flush),
        1 => Just(Action::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// An overlay behaves as an array of bytes; a discarded cluster reads as it was or as zeroes, but as one of them.
    #[test]
    fn it_is_an_array_of_bytes(actions in prop::collection::vec(actions(), 1..40)) {
        let files = files();
        let mut client = Client::new();
        let mut disk = files.open().unwrap();
        let mut model = base_bytes();
        for action in actions {
            match action {
                Action::Write(at, len, byte) => {
                    let bytes: Vec<u8> =
                        (0..len).map(|i| byte.wrapping_add(u8::try_from(i % 256).unwrap())).collect();
                    client.write(&mut disk, at, &bytes).unwrap();
                    model[at..at + len].copy_from_slice(&bytes);
                }
                Action::Zero(at, len) => {
                    disk.write_zeroes(at as u64, len as u64).unwrap();
                    model[at..at + len].fill(0);
                }
                Action::Discard(at, len) => {
                    disk.discard(at as u64, len as u64).unwrap();
                    let first = at.next_multiple_of(CLUSTER);
                    let end = if at + len == DISK { DISK } else { (at + len) / CLUSTER * CLUSTER };
                    for from in (first..end).step_by(CLUSTER) {
                        let cluster = from..(from + CLUSTER).min(DISK);
                        if disk.map.get((from / CLUSTER) as u64) == State::Zero {
                            model[cluster].fill(0);
                        }
                    }
                }
                Action::Flush => disk.flush().unwrap(),
                Action::Reopen => {
                    disk.flush().unwrap();
                    drop(disk);
                    disk = files.open().unwrap();
                }
            }
            prop_assert_eq!(disk.bytes(), HEAD + disk.map.data_clusters() * CLUSTER as u64);
        }
        prop_assert!(client.read(&disk, 0, DISK) == model);
        for at in (0..DISK).step_by(5 * 512) {
            let len = (DISK - at).min(5 * 512);
            prop_assert!(client.read(&disk, at, len) == model[at..at + len]);
        }
        prop_assert!(std::fs::read(&files.base).unwrap() == base_bytes());
    }
}

/// Freezes the top of `disk` as the layer `name`, as a snapshot does.
fn freeze(files: &Files, disk: &mut Overlay, name: usize) {
    disk.settle().unwrap();
    let path = files.base.with_file_name(format!("layer.{name}"));
    let next = files.base.with_file_name("next");
    if disk.layers().len() == MAX_LAYERS {
        let merged = disk.merge(&path).unwrap();
        let fresh = disk.make_fresh(&next).unwrap();
        disk.freeze_merged(merged, fresh);
    } else {
        std::fs::hard_link(disk.path(), &path).unwrap();
        let fresh = disk.make_fresh(&next).unwrap();
        disk.freeze(&path, fresh);
    }
    std::fs::rename(&next, disk.path()).unwrap();
}

/// The paths of the layers of `disk`.
fn layers_of(disk: &Overlay) -> Vec<PathBuf> {
    let layers = disk.layers().iter();
    layers.map(|layer| layer.path().to_owned()).collect()
}

#[test]
fn what_is_frozen_is_shared_and_stays() {
    let files = files();
    let mut client = Client::new();
    let mut disk = files.open().unwrap();
    client.write(&mut disk, 0, &[1; 8192]).unwrap();
    freeze(&files, &mut disk, 0);
    assert!(disk.is_fresh());
    let layers = layers_of(&disk);
    let frozen = std::fs::read(&layers[0]).unwrap();
    client.write(&mut disk, 4096, &[2; 512]).unwrap();

    let raw = RawFile::open(&files.base).unwrap();
    let other = files.base.with_file_name("other");
    let mut clone = Overlay::open_over(&other, raw, &layers, u64::MAX).unwrap();
    client.write(&mut clone, 0, &[3; 512]).unwrap();
    let read = |client: &mut Client, disk: &Overlay| {
        [0, 512, 4096, 4608].map(|at| client.read(disk, at, 1)[0])
    };
    assert_eq!(read(&mut client, &disk), [1, 1, 2, 1]);
    assert_eq!(read(&mut client, &clone), [3, 1, 1, 1]);
    assert_eq!(std::fs::read(&layers[0]).unwrap(), frozen);
}

#[test]
fn layers_of_another_base_or_too_many_are_refused() {
    let files = files();
    let mut disk = files.open().unwrap();
    Client::new().write(&mut disk, 0, &[1; 512]).unwrap();
    freeze(&files, &mut disk, 0);
    let layers = layers_of(&disk);
    let open = |layers: &[PathBuf]| {
        let raw = RawFile::open(&files.base).unwrap();
        let path = files.base.with_file_name("other");
        Overlay::open_over(&path, raw, layers, u64::MAX).map(|_| ())
    };
    let many = vec![layers[0].clone(); MAX_LAYERS + 1];
    assert!(matches!(open(&many), Err(OverlayError::Layers(9))));
    assert!(matches!(
        open(std::slice::from_ref(&files.base)),
        Err(OverlayError::Header(HeaderError::Magic))
    ));
    open(&layers).unwrap();
    let mut changed = base_bytes();
    changed[0] ^= 1;
    std::fs::write(&files.base, changed).unwrap();
    assert!(open(&layers).is_err());
}

#[test]
fn frozen_bytes_count_against_the_ceiling() {
    let files = files();
    let mut client = Client::new();
    let two = HEAD + 2 * CLUSTER as u64;
    let mut disk = files.open_with(two).unwrap();
    client.write(&mut disk, 0, &[1; CLUSTER]).unwrap();
    freeze(&files, &mut disk, 0);
    client.write(&mut disk, 0, &[2; CLUSTER]).unwrap();
    let refused = client.write(&mut disk, CLUSTER, &[2; CLUSTER]).unwrap_err();
    assert!(refused.is_no_space());
}

#[derive(Clone, Debug)]
enum Life {
    Write(usize, usize, u8),
    Zero(usize, usize),
    Freeze,
    /// Back to the layers after this many freezes.
    GoBack(usize),
    Reopen,
}

fn life() -> impl Strategy<Value = Life> {
    const SECTORS: usize = DISK / 512;
    let range = (0..SECTORS)
        .prop_flat_map(|from| (Just(from), 1..=(SECTORS - from).min(80)))
        .prop_map(|(from, count)| (from * 512, count * 512));
    prop_oneof![
        4 => (range.clone(), any::<u8>()).prop_map(|((at, len), byte)| Life::Write(at, len, byte)),
        2 => range.prop_map(|(at, len)| Life::Zero(at, len)),
        4 => Just(Life::Freeze),
        1 => (0..20usize).prop_map(Life::GoBack),
        1 => Just(Life::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However often it is frozen, merged and taken back, a disk is the array of bytes that it should be.
    #[test]
    fn layers_are_an_array_of_bytes(life in prop::collection::vec(life(), 1..60)) {
        let files = files();
        let mut client = Client::new();
        let mut disk = files.open().unwrap();
        let mut model = base_bytes();
        let mut frozen: Vec<(Vec<PathBuf>, Vec<u8>)> = Vec::new();
        let mut names = 0;
        for step in life {
            match step {
                Life::Write(at, len, byte) => {
                    client.write(&mut disk, at, &vec![byte; len]).unwrap();
                    model[at..at + len].fill(byte);
                }
                Life::Zero(at, len) => {
                    disk.write_zeroes(at as u64, len as u64).unwrap();
                    model[at..at + len].fill(0);
                }
                Life::Freeze => {
                    freeze(&files, &mut disk, names);
                    names += 1;
                    frozen.push((layers_of(&disk), model.clone()));
                }
                Life::GoBack(which) => {
                    if let Some((layers, bytes)) = frozen.get(which % frozen.len().max(1)) {
                        let identity = disk.base_identity();
                        let layers = layers
                            .iter()
                            .map(|path| Layer::open(path, identity, DISK as u64).unwrap())
                            .collect();
                        let next = files.base.with_file_name("next");
                        let fresh = disk.make_fresh(&next).unwrap();
                        disk.go_back(layers, fresh, u64::MAX);
                        std::fs::rename(&next, disk.path()).unwrap();
                        model = bytes.clone();
                    }
                }
                Life::Reopen => {
                    disk.flush().unwrap();
                    let layers = layers_of(&disk);
                    drop(disk);
                    let raw = RawFile::open(&files.base).unwrap();
                    disk = Overlay::open_over(&files.overlay, raw, &layers, u64::MAX).unwrap();
                }
            }
            prop_assert!(disk.layers().len() <= MAX_LAYERS);
            prop_assert!(client.read(&disk, 0, DISK) == model);
        }
    }
}
