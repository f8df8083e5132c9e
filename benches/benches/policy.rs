//! Compiling an egress policy into rules.

#![allow(missing_docs, reason = "the macros make public items")]

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use netguard::policy::compile;
use netguard::{EgressPolicy, Ipv4Net};

fn policy(ranges: u32) -> EgressPolicy {
    // Every fourth denied range lies within an allowed one.
    let range = |index: u32, prefix| {
        let address = Ipv4Addr::from(0x1000_0000 + (index << 12));
        Ipv4Net::new(address, prefix).expect("a prefix").trunc()
    };
    EgressPolicy {
        allow: (0..ranges).map(|index| range(index, 20)).collect(),
        deny: (0..ranges)
            .map(|index| match index % 4 {
                0 => range(index, 28),
                _ => range(index + 2048, 24),
            })
            .collect(),
        ..EgressPolicy::default()
    }
}

fn compiling(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy");
    for ranges in [1, 32, 1024] {
        let policy = policy(ranges);
        group.bench_with_input(BenchmarkId::new("compile", ranges), &policy, |b, policy| {
            b.iter(|| compile(black_box(policy)));
        });
    }
    group.finish();
}

criterion_group!(benches, compiling);
criterion_main!(benches);
