//! The copy-on-write disk: reads from the base, reads of what was written, writes in place, and first writes.

#![allow(missing_docs, reason = "the macros make public items")]

use std::fs::File;
use std::path::Path;

use benches::Ring;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use vmm::devices::block::RawFile;
use vmm::devices::block::overlay::Overlay;
use vmm::devices::virtio::chain::{Chain, Limits};

const DISK: u64 = 256 << 20;
const PAGE: u32 = 4096;

/// A chain with `count` pages, readable by the device (a guest's write) or writable (a guest's read).
fn pages(count: u16, writable: bool) -> (Ring, Chain) {
    let (readable, writable) = if writable { (0, count) } else { (count, 0) };
    let mut ring = Ring::new(readable, writable, PAGE);
    let mut chain = Chain::default();
    ring.offer(1);
    let limits = Limits {
        descriptors: 64,
        bytes: 1 << 20,
    };
    ring.queue.pop(limits, &mut chain);
    (ring, chain)
}

fn overlay(dir: &Path, name: &str) -> Overlay {
    let base = dir.join("base");
    if !base.exists() {
        let file = File::create(&base).expect("a base");
        file.set_len(DISK).expect("a size");
        // A first write then copies data, not a hole.
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![7; 64 << 20], 0).expect("data");
    }
    let base = RawFile::open(&base).expect("a base");
    Overlay::open(&dir.join(name), base, 2 * DISK).expect("an overlay")
}

fn block(c: &mut Criterion) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let mut group = c.benchmark_group("block");
    for count in [1, 16] {
        let bytes = u32::from(count) * PAGE;
        group.throughput(Throughput::Bytes(u64::from(bytes)));
        let size = format!("{} KiB", bytes >> 10);

        let (ring, chain) = pages(count, true);
        let untouched = overlay(dir.path(), &format!("untouched-{count}"));
        let mut at = 0;
        let mut next = move || {
            at = (at + u64::from(bytes)) % (32 << 20);
            at
        };
        group.bench_function(format!("read from the base, {size}"), |b| {
            let memory = ring.queue.memory();
            b.iter(|| {
                untouched
                    .read(memory, &chain.writable, bytes, next())
                    .expect("a read")
            });
        });

        let (source, write) = pages(count, false);
        let mut written = overlay(dir.path(), &format!("written-{count}"));
        for at in (0..32 << 20).step_by(bytes as usize) {
            let memory = source.queue.memory();
            written
                .write(memory, &write.readable, 0, bytes, at)
                .expect("a write");
        }
        group.bench_function(format!("read what was written, {size}"), |b| {
            let memory = ring.queue.memory();
            b.iter(|| {
                written
                    .read(memory, &chain.writable, bytes, next())
                    .expect("a read")
            });
        });
        group.bench_function(format!("write in place, {size}"), |b| {
            let memory = source.queue.memory();
            b.iter(|| {
                written
                    .write(memory, &write.readable, 0, bytes, next())
                    .expect("a write")
            });
        });
        let mut fresh = 0;
        group.bench_function(format!("first write, {size}"), |b| {
            let memory = source.queue.memory();
            b.iter_batched(
                || {
                    fresh += 1;
                    let name = format!("first-{count}-{fresh}");
                    let disk = overlay(dir.path(), &name);
                    // The open file is enough.
                    std::fs::remove_file(dir.path().join(name)).expect("it goes");
                    disk
                },
                |mut disk| {
                    disk.write(memory, &write.readable, 0, bytes, 8 << 20)
                        .expect("a write");
                    disk
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, block);
criterion_main!(benches);
