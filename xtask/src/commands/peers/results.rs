//! A run in the schema of all tools: a report of kind `peers` with its samples, for `reports render`.
//!
//! ```text
//!  sample ── measure, memory, at once, arm ──► series     block ── its begin ──► planned instant of its samples
//!  versus ──► comparison (A the peer, B ours)             memory row ──► reading of an arm
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;
use reports::folder::{self, SampleWriter};
use reports::model::load::{
    Activity, Arrival, Comparison, Counts, DensityRow, Finding, Method, Series, SpectrumPoint,
    Stage, Unit,
};
use reports::model::peers::ArmMemory;
use reports::model::{
    self, Environment, Machine, Peers, Tag, Target, Tool, Version, Virtualization,
};
use reports::stats::quantile::{Quantile, at, estimate};
use reports::stats::ratio::{RESAMPLES, SEED};
use reports::stats::{count, float};

use super::plan::{Arm, Measure, Slot};
use super::record::{Outcome, Record, Sample};
use super::report::Report;

/// Chance of calling equal arms different.
const ALPHA: f64 = 0.01;
/// A difference below 5 % does not matter.
const FLOOR: f64 = 0.05;
/// Points of a percentile curve for each further nine.
const POINTS: u32 = 16;

/// What the report does not say.
#[derive(Debug, Clone)]
pub struct Run {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The image in both.
    pub template: String,
    /// Words after `cargo xtask`.
    pub command: Vec<String>,
}

/// Writes the folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write(out: &Path, report: &Report, records: &[Record], run: &Run) -> Result<()> {
    let mut writer = SampleWriter::create(out)?;
    for sample in samples(records) {
        writer.add(&sample)?;
    }
    writer.finish()?;
    folder::write(out, &results(report, records, run))?;
    Ok(())
}

/// The report.
fn results(report: &Report, records: &[Record], run: &Run) -> model::Report<Peers> {
    let host = &report.summary.environment;
    let versions: BTreeMap<String, String> = host.versions.iter().cloned().collect();
    let revision = (report.revision != "unknown").then(|| report.revision.clone());
    let machine = Machine {
        cpu: host.processor.clone(),
        cpus: u32::try_from(host.processors).unwrap_or(u32::MAX),
        kernel: host.kernel.clone(),
        virtualization: match report.place.as_str() {
            "lab" => Virtualization::Lab,
            _ => Virtualization::Hardware,
        },
        memory_bytes: host.memory_mib << 20,
        file_system: Some(host.file_system.clone()),
        cache_state: Some("all files in memory".to_owned()),
        versions: versions.clone(),
    };
    let command = ["cargo", "xtask"].map(str::to_owned);
    model::Report {
        schema: Version,
        kind: Tag::default(),
        tool: Tool {
            name: "xtask peers".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            git_revision: revision.clone(),
        },
        run: format!("peers-{}", run.started_at.as_second()),
        command: command.into_iter().chain(run.command.clone()).collect(),
        seed: Some(SEED),
        started_at: run.started_at,
        ended_at: run.ended_at,
        interrupted: false,
        target: Target {
            name: Some("microvm beside Firecracker".to_owned()),
            url: "processes on the measured host".to_owned(),
            template: run.template.clone(),
            versions,
        },
        environment: Environment {
            client: Some(machine.clone()),
            host: Some(machine),
        },
        body: Peers {
            arms: arms(report, revision.as_deref()),
            series: series(records),
            comparisons: comparisons(report),
            memory: memory(report),
            notes: Vec::from([
                "Blocks of the arms took turns; within a block all machines were asked for at once.".to_owned(),
                "Connections to agents that came to nothing are within the times.".to_owned(),
            ]),
        },
    }
}

fn arms(report: &Report, revision: Option<&str>) -> Vec<Tool> {
    let versions = &report.summary.environment.versions;
    let version = |program: &str| {
        let told = versions.iter().find(|(name, _)| name == program);
        told.map_or_else(|| "unknown".to_owned(), |(_, version)| version.clone())
    };
    Arm::ALL
        .into_iter()
        .map(|arm| {
            let ours = arm != Arm::Firecracker;
            Tool {
                name: arm.name().to_owned(),
                version: version(if ours { "microvm" } else { "firecracker" }),
                git_revision: revision.filter(|_| ours).map(str::to_owned),
            }
        })
        .collect()
}

/// What samples of one series have in common.
type Key = (u32, Measure, usize, Arm);

fn key(measure: Measure, slot: &Slot) -> Key {
    (slot.memory_mib, measure, slot.concurrency, slot.arm)
}

fn name((memory_mib, measure, at_once, arm): Key) -> String {
    format!(
        "{}, {memory_mib} MiB, {at_once} at once, {}",
        measure.name(),
        arm.name()
    )
}

fn series(records: &[Record]) -> Vec<Series> {
    let mut of: BTreeMap<Key, Vec<&Sample>> = BTreeMap::new();
    let mut walls: BTreeMap<Key, u64> = BTreeMap::new();
    for record in records {
        match record {
            Record::Sample(sample) => of
                .entry(key(sample.measure, &sample.slot))
                .or_default()
                .push(sample),
            Record::Block(block) => {
                *walls.entry(key(block.measure, &block.slot)).or_default() += block.wall_ns
            }
            Record::Environment(_) | Record::Memory(_) => {}
        }
    }
    of.into_iter()
        .map(|(key, samples)| one(key, &samples, walls.get(&key).copied().unwrap_or(0)))
        .collect()
}

fn one(key: Key, samples: &[&Sample], wall_ns: u64) -> Series {
    let (memory_mib, measure, at_once, arm) = key;
    let mut counts = Counts::default();
    let mut sorted = Vec::new();
    for sample in samples {
        counts.planned += 1;
        counts.sent += 1;
        match &sample.outcome {
            Outcome::Ns(ns) => {
                counts.ok += 1;
                sorted.push(*ns);
            }
            Outcome::Failed(why) => *counts.failures.entry(why.clone()).or_default() += 1,
        }
    }
    sorted.sort_unstable();
    let dimensions = [
        ("arm", arm.name().to_owned()),
        ("concurrency", at_once.to_string()),
        ("memory_mib", memory_mib.to_string()),
    ];
    Series {
        name: name(key),
        metric: measure.name().replace(' ', "_"),
        clock: None,
        unit: Unit::Nanoseconds,
        dimensions: dimensions
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        arrival: Arrival {
            model: "burst".to_owned(),
            // A block begins when the one before it has ended.
            closed_loop: true,
            offered_per_s: None,
            achieved_per_s: float(counts.ok) * 1e9 / float(wall_ns.max(1)),
        },
        wall_ns,
        method: Method::NearestRank,
        quantiles: Quantile::SHOWN
            .iter()
            .filter_map(|&q| estimate(&sorted, q))
            .collect(),
        min: sorted.first().copied(),
        max: sorted.last().copied(),
        mean: mean(sorted.iter().copied(), sorted.len()),
        spectrum: spectrum(&sorted),
        timeline: Vec::new(),
        stages: stages(samples, sorted.len()),
        hgrm: None,
        hlog: None,
        counts,
    }
}

fn mean(values: impl Iterator<Item = u64>, n: usize) -> Option<u64> {
    let sum: u128 = values.map(u128::from).sum();
    let n = u128::try_from(n).ok().filter(|n| *n > 0)?;
    u64::try_from(sum / n).ok()
}

/// Nearest ranks at shares that come closer and closer to all.
fn spectrum(sorted: &[u64]) -> Vec<SpectrumPoint> {
    let mut points: Vec<SpectrumPoint> = Vec::new();
    for step in 0.. {
        let share = 1.0 - 10f64.powf(-f64::from(step) / f64::from(POINTS));
        if share * count(sorted.len()) >= count(sorted.len()) - 1.0 {
            break;
        }
        let rank = sorted
            .iter()
            .enumerate()
            .find(|(index, _)| count(index + 1) >= share * count(sorted.len()));
        let Some((index, value)) = rank else { break };
        let number = u64::try_from(index + 1).unwrap_or(u64::MAX);
        points.push(SpectrumPoint {
            share,
            value: *value,
            count: number,
        });
    }
    points
}

/// Stages seen from outside; what the process tells lies within them.
fn stages(samples: &[&Sample], ok: usize) -> Vec<Stage> {
    let mut order: Vec<&str> = Vec::new();
    let mut of: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (name, ns) in samples.iter().flat_map(|sample| &sample.stages) {
        if name.starts_with("vmm:") {
            continue;
        }
        if !of.contains_key(name.as_str()) {
            order.push(name);
        }
        of.entry(name).or_default().push(*ns);
    }
    order
        .into_iter()
        .filter_map(|name| {
            let mut all = of.remove(name)?;
            all.sort_unstable();
            Some(Stage {
                name: name.to_owned(),
                count: u64::try_from(all.len()).ok()?,
                mean_ns: mean(all.iter().copied(), ok)?,
                p50_ns: at(&all, Quantile::P50)?,
                p95_ns: at(&all, Quantile::P95)?,
            })
        })
        .collect()
}

fn comparisons(report: &Report) -> Vec<Comparison> {
    let versus = report.summary.versus.iter();
    versus
        .filter_map(|one| {
            let key = |arm| {
                (
                    one.case.memory_mib,
                    one.case.measure,
                    one.case.concurrency,
                    arm,
                )
            };
            let found = &one.comparison;
            let first = found.ratios.first()?;
            Some(Comparison {
                title: format!("{} against Firecracker", name(key(one.arm))),
                a: name(key(Arm::Firecracker)),
                b: name(key(one.arm)),
                rounds: found.rounds,
                ratios: found.ratios.clone(),
                p_value: found.p_value,
                resamples: RESAMPLES,
                alpha: ALPHA,
                floor: FLOOR,
                finding: Finding::judge(first.value, first.supported, found.p_value, ALPHA, FLOOR),
            })
        })
        .collect()
}

fn memory(report: &Report) -> Vec<ArmMemory> {
    let rows = report.summary.memory.iter();
    rows.map(|row| ArmMemory {
        arm: format!("{}, {} MiB", row.arm.name(), row.memory_mib),
        reading: DensityRow {
            live: u64::try_from(row.machines).unwrap_or(u64::MAX),
            silent: 0,
            activity: Activity::Idle,
            vmm_pss_bytes: Some(row.mean.vmm_pss),
            pss_bytes: Some(row.mean.pss),
            // What is read is private pages, clean ones too.
            private_dirty_bytes: None,
            cgroup_bytes: None,
            available_delta_bytes: Some(row.available),
            guest_used_bytes: None,
            answer_p50_ns: None,
            answer_max_ns: None,
        },
    })
    .collect()
}

/// Samples with the instant at which their block began: the sum of what all blocks before it took.
fn samples(records: &[Record]) -> Vec<model::Sample> {
    let mut all = Vec::new();
    let (mut now, mut begun) = (0u64, 0);
    for record in records {
        match record {
            Record::Sample(sample) => all.push(raw(sample)),
            Record::Block(block) => {
                for sample in &mut all[begun..] {
                    sample.planned_ns = now;
                    sample.sent_ns = Some(now);
                }
                begun = all.len();
                now = now.saturating_add(block.total_ns);
            }
            Record::Environment(_) | Record::Memory(_) => {}
        }
    }
    all
}

fn raw(sample: &Sample) -> model::Sample {
    let (value, failure) = match &sample.outcome {
        Outcome::Ns(ns) => (Some(*ns), None),
        Outcome::Failed(why) => (None, Some(why.clone())),
    };
    model::Sample {
        series: name(key(sample.measure, &sample.slot)),
        round: u32::try_from(sample.slot.round).unwrap_or(u32::MAX),
        planned_ns: 0,
        sent_ns: Some(0),
        value,
        failure,
        sandbox: None,
        stages_ns: sample.stages.iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use reports::folder::AnyReport;
    use reports::model::load::Verdict;

    use super::super::report::tests::records;
    use super::super::summary::summarize;
    use super::*;

    #[test]
    fn a_run_is_a_folder_that_reports_can_read() {
        let records = records();
        let report = Report {
            place: "lab".into(),
            revision: "abc".into(),
            command: String::new(),
            summary: summarize(&records),
        };
        let run = Run {
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
            template: "base".into(),
            command: Vec::from(["peers".into()]),
        };
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &report, &records, &run).unwrap();
        let AnyReport::Peers(read) = folder::read(dir.path()).unwrap() else {
            panic!("another kind");
        };
        let body = &read.body;
        assert_eq!(body.series.len(), 2);
        // One restore of the peer failed: 19 samples are one too few for a median.
        let finding = body.comparisons[0].finding;
        assert!(finding.real && finding.matters && finding.verdict == Verdict::Undecided);
        assert_eq!(
            body.memory[0].reading.available_delta_bytes,
            Some(-(3 << 20) / 2)
        );
        for series in &body.series {
            assert_eq!(
                series.counts.sent,
                series.counts.ok + series.counts.failed()
            );
            assert!(
                series
                    .spectrum
                    .windows(2)
                    .all(|pair| pair[0].value <= pair[1].value)
            );
            assert!(series.spectrum.len() > 8, "{}", series.spectrum.len());
        }
        let samples = folder::samples(dir.path()).unwrap();
        assert_eq!(samples.len(), 40);
        assert!(
            samples
                .windows(2)
                .all(|pair| pair[0].planned_ns <= pair[1].planned_ns)
        );
        assert!(samples.last().unwrap().planned_ns > 0);
    }
}
