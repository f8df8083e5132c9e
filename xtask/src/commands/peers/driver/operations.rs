//! Pause, snapshots and rollback: what is done with a machine that runs.
//!
//! ```text
//!   restore ─► one small command in the guest ─► pause ─► diff snapshot ─► full snapshot ─► resume ─► rollback
//! ```
//!
//! The peer's machine has its log of dirty pages on, as its diff snapshots need. It has no rollback; what its users do is
//! to start a new process from the snapshot, without that log, and that is what stands beside ours.

use std::time::Instant;

use agent_protocol::control::Depth;
use anyhow::Result;
use vmm::snapshot::Kind;

use super::machine::{Machine, nanoseconds};
use super::process::Folder;
use super::restores::restored;
use super::{Bench, agent, emit, files, host, progress, wave};
use crate::commands::peers::plan::{Arm, Measure, Slot};
use crate::commands::peers::record::{Block, Outcome, Record, Sample, Stages};

/// Carries out rounds of operations.
///
/// # Errors
/// When lines can't be written, or a signal came.
pub fn run(bench: &Bench, slots: &[Slot]) -> Result<()> {
    for (index, &slot) in slots.iter().enumerate() {
        progress("operations", slots, index)?;
        let calibration_ns = host::calibrate();
        let began = Instant::now();
        let mut samples = Vec::new();
        if let Err(error) = round(bench, slot, &mut samples) {
            // Where it stopped: everything after that has not been tried.
            let measure = next(samples.last().map(|sample: &Sample| sample.measure));
            let failed = Outcome::Failed(format!("{error:#}"));
            samples.push(sample(measure, slot, failed, Stages::new(), None));
        }
        let mut records: Vec<Record> = samples.into_iter().map(Record::Sample).collect();
        records.push(Record::Block(Block {
            measure: Measure::Pause,
            slot,
            calibration_ns,
            wall_ns: nanoseconds(began.elapsed()),
            total_ns: nanoseconds(began.elapsed()),
        }));
        emit(&records)?;
    }
    Ok(())
}

/// What comes after a measure that worked.
fn next(last: Option<Measure>) -> Measure {
    match last {
        None | Some(Measure::Restore) => Measure::Pause,
        Some(Measure::Pause) => Measure::SnapshotDiff,
        Some(Measure::SnapshotDiff) => Measure::SnapshotFull,
        Some(Measure::SnapshotFull | Measure::Rollback) => Measure::Rollback,
    }
}

fn round(bench: &Bench, slot: Slot, samples: &mut Vec<Sample>) -> Result<()> {
    let staged = match slot.arm {
        Arm::Firecracker => bench.firecracker.stage(&bench.base, true)?,
        Arm::Prepared | Arm::Cold => bench.stage(slot.arm)?,
    };
    let (mut ended, _) = wave::run(vec![staged])?;
    let mut ended = ended.remove(0)?;
    let machine = ended.machine.as_mut();
    agent::warm_up(machine.vsock(), Depth::FirstCall)?;
    let began = Instant::now();
    machine.pause()?;
    let took = Outcome::Ns(nanoseconds(began.elapsed()));
    samples.push(sample(Measure::Pause, slot, took, Stages::new(), None));
    let folder = Folder::new(&bench.base)?;
    for (measure, kind) in [
        (Measure::SnapshotDiff, Kind::Diff),
        (Measure::SnapshotFull, Kind::Full),
    ] {
        let dir = folder.path(if kind == Kind::Diff { "diff" } else { "full" });
        let began = Instant::now();
        let stages = machine.snapshot(kind, &dir)?;
        let took = Outcome::Ns(nanoseconds(began.elapsed()));
        let bytes = Some(files::taken(&dir)?);
        samples.push(sample(measure, slot, took, stages, bytes));
    }
    machine.resume()?;
    agent::first_answer(machine.vsock())?;
    let back = roll_back(slot, machine)?;
    if let Some(back) = back {
        samples.push(back);
        return Ok(());
    }
    drop(ended);
    let (ended, _) = wave::run(vec![bench.stage(slot.arm)?])?;
    samples.extend(
        ended
            .iter()
            .map(|ended| restored(Measure::Rollback, slot, ended)),
    );
    Ok(())
}

/// Takes a machine back in place, up to its next answer; `None` where that is not to be had.
fn roll_back(slot: Slot, machine: &mut dyn Machine) -> Result<Option<Sample>> {
    let began = Instant::now();
    let Some(stages) = machine.roll_back() else {
        return Ok(None);
    };
    let stages = stages?;
    let retries = agent::first_answer(machine.vsock())?;
    let took = Outcome::Ns(nanoseconds(began.elapsed()));
    // As a restored one, it must answer again.
    let check_retries = agent::first_answer(machine.vsock())?;
    Ok(Some(Sample {
        retries,
        check_retries,
        ..sample(Measure::Rollback, slot, took, stages, None)
    }))
}

fn sample(
    measure: Measure,
    slot: Slot,
    outcome: Outcome,
    stages: Stages,
    bytes: Option<u64>,
) -> Sample {
    Sample {
        measure,
        slot,
        outcome,
        stages,
        bytes,
        retries: 0,
        check_retries: 0,
    }
}
