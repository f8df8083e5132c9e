//! What a restore does before it needs a processor: reading manifest, state and working set, and laying memory; and what a
//! snapshot does to write them.

#![allow(missing_docs, reason = "the macros make public items")]

use std::fs::File;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use vm_memory::{Bytes, GuestAddress};
use vmm::arch::x86_64::cpuid::CpuIdentity;
use vmm::arch::x86_64::vcpu_state::VcpuState;
use vmm::devices::virtio::GuestMemory;
use vmm::memory::pagemap::Pagemap;
use vmm::snapshot::extents::{Extent, Source};
use vmm::snapshot::{Extents, FileEntry, Kind, Manifest, SavedState, WorkingSet, layers};

const MEMORY: u64 = 256 << 20;
/// A warm template's memory is in about as many pieces.
const PIECES: u64 = 1_500;

fn manifest() -> Manifest {
    let machine = r#"{"vcpus":1,"memory_mib":256,"kernel":"/templates/vmlinux",
        "disks":[{"id":"agent","path":"/templates/agent.erofs","read_only":true},
                 {"id":"rootfs","path":"/templates/rootfs.erofs","read_only":true},
                 {"id":"overlay","path":"/templates/overlay.ext4","read_only":false,"overlay":"/m/overlay.cow"}],
        "vsock":{"guest_cid":3,"uds_path":"/m/vsock.sock"},"rng":true,"balloon":true}"#;
    let machine = serde_json::from_str(machine).expect("a machine");
    let mut manifest = Manifest::new(Kind::Full, CpuIdentity::default(), machine);
    manifest.id = "0123456789abcdef0123456789abcdef".into();
    let entry = |name: &str, bytes| FileEntry {
        name: name.into(),
        bytes,
        crc32: Some(7),
    };
    manifest.state = entry("state", 99);
    manifest.memory = vec![entry("memory.0", MEMORY)];
    manifest
}

/// Data and holes in turn.
fn extents() -> Extents {
    let each = MEMORY / PIECES / 4096 * 4096;
    let piece = |index: u64| Extent {
        at: index * each,
        len: if index + 1 == PIECES {
            MEMORY - index * each
        } else {
            each
        },
        source: if index.is_multiple_of(2) {
            Source::Layer(0)
        } else {
            Source::Zero
        },
    };
    (0..PIECES).map(piece).collect()
}

fn state() -> SavedState {
    let vcpu = VcpuState {
        msrs: (0..150).map(|index| (index, u64::from(index))).collect(),
        ..VcpuState::default()
    };
    SavedState {
        extents: extents(),
        vcpus: vec![vcpu],
        ..SavedState::default()
    }
}

fn codecs(c: &mut Criterion) {
    let mut group = c.benchmark_group("snapshot");
    let (manifest, state) = (manifest(), state());
    let text = manifest.encode();
    group.bench_function("manifest encode", |b| b.iter(|| manifest.encode()));
    group.bench_function("manifest decode", |b| {
        b.iter(|| Manifest::decode(black_box(&text)))
    });
    let bytes = state.encode().expect("a state");
    group.bench_function("state encode", |b| b.iter(|| state.encode()));
    group.bench_function("state decode", |b| {
        b.iter(|| SavedState::decode(black_box(&bytes)))
    });
    group.bench_function("extents decode", |b| {
        let bytes = state.extents.encode();
        b.iter(|| Extents::decode(black_box(&bytes)));
    });
    group.finish();
}

/// Reading the list of pages to bring in. Where the host does not tell which pages a process has, it is left out.
fn working_set(c: &mut Criterion) {
    const ID: &str = "0123456789abcdef0123456789abcdef";
    let memory = fresh();
    for page in (0..MEMORY).step_by(12 << 12) {
        memory
            .write_obj(1_u8, GuestAddress(page))
            .expect("inside memory");
    }
    let found = Pagemap::open().and_then(|pagemap| WorkingSet::of(&memory, &pagemap));
    let set = match found {
        Ok(set) => set,
        Err(error) => return println!("working set: not run: {error}"),
    };
    let mut group = c.benchmark_group("working set");
    let bytes = set.encode(ID);
    group.bench_function(format!("decode, {} runs", set.runs().count()), |b| {
        b.iter(|| WorkingSet::decode(black_box(&bytes), ID, MEMORY));
    });
    group.bench_function("collect", |b| {
        let pagemap = Pagemap::open().expect("as before");
        b.iter(|| WorkingSet::of(&memory, &pagemap));
    });
    group.finish();
}

fn fresh() -> GuestMemory {
    let size = usize::try_from(MEMORY).expect("an address");
    GuestMemory::from_ranges(&[(GuestAddress(0), size)]).expect("memory")
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("restore");
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let file = dir.path().join("memory.0");
    File::create(&file)
        .expect("a file")
        .set_len(MEMORY)
        .expect("a size");
    let layer = [File::open(&file).expect("a file")];
    let extents = extents();
    group.bench_function("memory laid, 1,500 pieces", |b| {
        b.iter_batched(
            fresh,
            |memory| {
                layers::lay(&memory, &extents, &layer).expect("it is laid");
                memory
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("steps planned", |b| {
        b.iter(|| layers::plan(black_box(&extents)))
    });
    group.finish();
}

criterion_group!(benches, codecs, working_set, memory);
criterion_main!(benches);
