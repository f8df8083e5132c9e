//! Walking a virtqueue: from the available ring to checked segments and back to the used ring.

#![allow(missing_docs, reason = "the macros make public items")]

use std::hint::black_box;

use benches::Ring;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vmm::devices::virtio::chain::{Chain, Limits};

/// Chains in one go, as a device finds them when it is woken.
const BATCH: u16 = 32;

fn walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue/walk");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    let limits = Limits {
        descriptors: 64,
        bytes: 1 << 20,
    };
    for (readable, writable) in [(0, 1), (1, 1), (1, 3), (8, 8)] {
        let mut ring = Ring::new(readable, writable, 4096);
        let mut chain = Chain::default();
        let name = format!("{readable} readable, {writable} writable");
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                ring.offer(BATCH);
                for _ in 0..BATCH {
                    black_box(ring.queue.pop(limits, &mut chain));
                    ring.queue.used(chain.head, chain.writable.len());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, walk);
criterion_main!(benches);
