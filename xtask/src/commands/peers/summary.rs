//! From raw lines to figures; pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::plan::{Arm, Measure};
use super::record::{Environment, Outcome, ProcessMemory, Record, Sample};
use reports::stats::quantile::{Estimate, Quantile, at, estimate};
use reports::stats::ratio::{Comparison, RESAMPLES, Round, SEED, compare};
use reports::stats::{count, float, quantile, rounded};

/// What was done how often at once with guests of which size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Case {
    /// Guest memory.
    pub memory_mib: u32,
    /// What.
    pub measure: Measure,
    /// How many at once.
    pub concurrency: usize,
}

/// One arm of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The case.
    pub case: Case,
    /// The arm.
    pub arm: Arm,
    /// Readings.
    pub n: usize,
    /// Failures, which are no readings, by what they said.
    pub failed: BTreeMap<String, usize>,
    /// Connections to agents that came to nothing before one was answered.
    pub retries: u32,
    /// The same when machines were asked once more.
    pub check_retries: u32,
    /// Quantiles, nanoseconds.
    pub estimates: Vec<Estimate>,
    /// Mean of the bytes written.
    pub bytes: Option<u64>,
    /// Medians of the stages, nanoseconds, in their order.
    pub stages: Vec<(String, u64)>,
}

/// Ours against the peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Versus {
    /// The case.
    pub case: Case,
    /// Which of ours.
    pub arm: Arm,
    /// The ratios.
    pub comparison: Comparison,
}

/// What machines take that live side by side, in bytes for each machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryRow {
    /// Guest memory.
    pub memory_mib: u32,
    /// Machines side by side.
    pub machines: usize,
    /// Whose.
    pub arm: Arm,
    /// Blocks read.
    pub blocks: usize,
    /// Means over all processes.
    pub mean: ProcessMemory,
    /// How much less the host has available.
    pub available: i64,
}

/// How fast the machine was while it measured, nanoseconds for the fixed work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Calibration {
    /// Readings.
    pub n: usize,
    /// The fastest.
    pub least: u64,
    /// The middle one.
    pub median: u64,
    /// The slowest.
    pub most: u64,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The measured host.
    pub environment: Environment,
    /// How fast it was.
    pub calibration: Option<Calibration>,
    /// Each arm of each case.
    pub rows: Vec<Row>,
    /// Ours against the peer, for each case.
    pub versus: Vec<Versus>,
    /// Memory.
    pub memory: Vec<MemoryRow>,
}

/// Sums a run up.
#[must_use]
pub fn summarize(records: &[Record]) -> Summary {
    let mut environment = Environment::default();
    let mut samples: BTreeMap<(Case, Arm), Vec<&Sample>> = BTreeMap::new();
    let mut calibrations = Vec::new();
    for record in records {
        match record {
            Record::Environment(found) => environment = found.clone(),
            Record::Block(block) => calibrations.push(block.calibration_ns),
            Record::Sample(sample) => {
                let case = Case {
                    memory_mib: sample.slot.memory_mib,
                    measure: sample.measure,
                    concurrency: sample.slot.concurrency,
                };
                samples
                    .entry((case, sample.slot.arm))
                    .or_default()
                    .push(sample);
            }
            Record::Memory(_) => {}
        }
    }
    let rows = samples
        .iter()
        .map(|(&(case, arm), samples)| row(case, arm, samples))
        .collect();
    let versus = samples
        .iter()
        .filter(|((_, arm), _)| *arm != Arm::Firecracker)
        .filter_map(|(&(case, arm), ours)| {
            let peer = samples.get(&(case, Arm::Firecracker))?;
            let comparison = compare(&rounds(ours, peer), RESAMPLES, SEED)?;
            Some(Versus {
                case,
                arm,
                comparison,
            })
        })
        .collect();
    Summary {
        environment,
        calibration: calibration(calibrations),
        rows,
        versus,
        memory: memory(records),
    }
}

fn row(case: Case, arm: Arm, samples: &[&Sample]) -> Row {
    let mut times = Vec::new();
    let mut failed = BTreeMap::new();
    for sample in samples {
        match &sample.outcome {
            Outcome::Ns(ns) => times.push(*ns),
            Outcome::Failed(why) => *failed.entry(why.clone()).or_default() += 1,
        }
    }
    times.sort_unstable();
    let bytes: Vec<u64> = samples.iter().filter_map(|sample| sample.bytes).collect();
    Row {
        case,
        arm,
        n: times.len(),
        failed,
        retries: samples.iter().map(|sample| sample.retries).sum(),
        check_retries: samples.iter().map(|sample| sample.check_retries).sum(),
        estimates: Quantile::SHOWN
            .iter()
            .filter_map(|&q| estimate(&times, q))
            .collect(),
        bytes: (!bytes.is_empty()).then(|| rounded(quantile::mean(&bytes))),
        stages: stages(samples),
    }
}

/// Medians of the stages, in the order in which they came.
fn stages(samples: &[&Sample]) -> Vec<(String, u64)> {
    let mut order: Vec<&str> = Vec::new();
    let mut all: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (name, ns) in samples.iter().flat_map(|sample| &sample.stages) {
        let of_name = all.entry(name).or_insert_with(|| {
            order.push(name);
            Vec::new()
        });
        of_name.push(*ns);
    }
    let median = |name: &&str| {
        let mut times = all.remove(*name)?;
        times.sort_unstable();
        Some(((*name).to_owned(), at(&times, Quantile::P50)?))
    };
    order.iter().filter_map(median).collect()
}

/// Readings of two arms by their rounds.
fn rounds(ours: &[&Sample], peer: &[&Sample]) -> Vec<Round> {
    let mut rounds: BTreeMap<usize, Round> = BTreeMap::new();
    for sample in ours {
        if let Outcome::Ns(ns) = sample.outcome {
            rounds.entry(sample.slot.round).or_default().0.push(ns);
        }
    }
    for sample in peer {
        if let Outcome::Ns(ns) = sample.outcome {
            rounds.entry(sample.slot.round).or_default().1.push(ns);
        }
    }
    rounds.into_values().collect()
}

fn calibration(mut readings: Vec<u64>) -> Option<Calibration> {
    readings.sort_unstable();
    Some(Calibration {
        n: readings.len(),
        least: *readings.first()?,
        median: at(&readings, Quantile::P50)?,
        most: *readings.last()?,
    })
}

fn memory(records: &[Record]) -> Vec<MemoryRow> {
    let blocks = records.iter().filter_map(|record| match record {
        Record::Memory(memory) if !memory.processes.is_empty() => Some(memory),
        _ => None,
    });
    let blocks: Vec<_> = blocks.collect();
    let keys: BTreeSet<_> = blocks
        .iter()
        .map(|block| {
            (
                block.slot.memory_mib,
                block.slot.concurrency,
                block.slot.arm,
            )
        })
        .collect();
    let row = |(memory_mib, machines, arm)| {
        let of_key = blocks.iter().filter(|b| {
            (b.slot.memory_mib, b.slot.concurrency, b.slot.arm) == (memory_mib, machines, arm)
        });
        let of_key: Vec<_> = of_key.collect();
        let all: Vec<ProcessMemory> = of_key.iter().flat_map(|b| b.processes.clone()).collect();
        let mean = |what: fn(&ProcessMemory) -> u64| {
            rounded(quantile::mean(&all.iter().map(what).collect::<Vec<_>>()))
        };
        let live = i64::try_from(all.len()).unwrap_or(i64::MAX);
        MemoryRow {
            memory_mib,
            machines,
            arm,
            blocks: of_key.len(),
            mean: ProcessMemory {
                pss: mean(|p| p.pss),
                private: mean(|p| p.private),
                vmm_pss: mean(|p| p.vmm_pss),
                vmm_private: mean(|p| p.vmm_private),
            },
            available: of_key.iter().map(|b| b.available_delta).sum::<i64>() / live,
        }
    };
    keys.into_iter().map(row).collect()
}

/// Nanoseconds as milliseconds.
#[must_use]
pub fn ms(ns: u64) -> f64 {
    float(ns) / 1e6
}

/// Bytes as MiB.
#[must_use]
pub fn mib(bytes: u64) -> f64 {
    float(bytes) / count(1 << 20)
}
