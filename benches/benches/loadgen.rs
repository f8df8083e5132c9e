//! What the load generator does for each arrival, and what judging two runs takes.

#![allow(missing_docs, reason = "the macros make public items")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loadgen::pace::parse::Pattern;
use loadgen::pace::{Bounds, next};
use loadgen::record::histogram;
use loadgen::wire::envelope::{Frames, encode};
use reports::stats::paired::compare;
use reports::stats::ratio::Round;

/// Arrivals of a batch.
const ARRIVALS: u64 = 1_000;

fn pacing(c: &mut Criterion) {
    let mut group = c.benchmark_group("loadgen/pace");
    group.throughput(Throughput::Elements(ARRIVALS));
    let rate = 5_000.0;
    let (from, over) = (1.0, Duration::from_secs(60));
    for (name, pattern) in [
        ("constant", Pattern::Constant { rate }),
        ("poisson", Pattern::Poisson { rate, seed: 7 }),
        (
            "ramp",
            Pattern::Ramp {
                from,
                to: rate,
                over,
            },
        ),
    ] {
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_batched(
                || pattern.pacer(),
                |mut pacer| {
                    for sent in 0..ARRIVALS {
                        let late = Duration::from_secs(60);
                        black_box(next(&mut *pacer, Bounds::default(), late, sent));
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn recording(c: &mut Criterion) {
    let mut group = c.benchmark_group("loadgen/record");
    group.throughput(Throughput::Elements(ARRIVALS));
    group.bench_function("histogram", |b| {
        let mut values = histogram::empty::<u64>();
        b.iter(|| {
            for n in 0..ARRIVALS {
                // From tens of microseconds to tens of seconds.
                histogram::record(&mut values, 10_000_u64 << (n % 20));
            }
        });
    });
    group.finish();
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("loadgen/frames");
    let stream: Vec<u8> = (0..64)
        .flat_map(|_| encode(&[b'x'; 4_096]).to_vec())
        .collect();
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("decode", |b| {
        b.iter(|| {
            let mut frames = Frames::default();
            let mut read = 0;
            for piece in stream.chunks(16_384) {
                frames.push(black_box(piece));
                while let Ok(Some(frame)) = frames.next_frame() {
                    read += frame.payload.len();
                }
            }
            read
        });
    });
    group.finish();
}

fn judging(c: &mut Criterion) {
    let mut group = c.benchmark_group("loadgen/compare");
    group.sample_size(10);
    for rounds in [5, 20] {
        let rounds: Vec<Round> = (0..rounds)
            .map(|round| {
                let side =
                    |add: u64| (0..40).map(move |n| 1_000_000 + (n * 7_919 + round) % 90_000 + add);
                (side(0).collect(), side(20_000).collect())
            })
            .collect();
        let id = BenchmarkId::new("rounds", rounds.len());
        group.bench_with_input(id, &rounds, |b, rounds| {
            b.iter(|| compare(black_box(rounds), 9_999, 7));
        });
    }
    group.finish();
}

criterion_group!(benches, pacing, recording, frames, judging);
criterion_main!(benches);
