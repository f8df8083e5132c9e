//! Blocks of restores, and what machines that live side by side take.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::machine::{Machine, nanoseconds};
use super::wave::{self, Ended};
use super::{Bench, agent, emit, firecracker, host, microvm, progress, smaps};
use crate::commands::peers::plan::{Arm, Measure, Plan, Slot};
use crate::commands::peers::record::{Block, Memory, Outcome, Record, Sample};

/// How long machines are left alone before their memory is read: what a first answer set off is over by then.
const SETTLE: Duration = Duration::from_secs(3);

/// Carries out blocks of restores.
///
/// # Errors
/// When lines can't be written, or a signal came.
pub fn run(bench: &Bench, slots: &[Slot]) -> Result<()> {
    for (index, &slot) in slots.iter().enumerate() {
        progress("restores", slots, index)?;
        let calibration_ns = host::calibrate();
        let began = Instant::now();
        let waves = if slot.concurrency > 1 {
            1
        } else {
            Plan::per_block(slot.concurrency)
        };
        let mut records = Vec::new();
        let mut wall_ns = 0;
        for _ in 0..waves {
            let (samples, wall) = restore(bench, slot)?;
            records.extend(samples.into_iter().map(Record::Sample));
            wall_ns += wall;
        }
        records.push(Record::Block(Block {
            measure: Measure::Restore,
            slot,
            calibration_ns,
            wall_ns,
            total_ns: nanoseconds(began.elapsed()),
        }));
        emit(&records)?;
    }
    Ok(())
}

/// One wave: all machines of it are gone when it returns.
fn restore(bench: &Bench, slot: Slot) -> Result<(Vec<Sample>, u64)> {
    let (ended, wall) = begin(bench, slot)?;
    let samples = ended
        .iter()
        .map(|ended| restored(Measure::Restore, slot, ended))
        .collect();
    Ok((samples, wall))
}

fn begin(bench: &Bench, slot: Slot) -> Result<(Vec<Result<Ended>>, u64)> {
    let mut staged = Vec::with_capacity(slot.concurrency);
    for _ in 0..slot.concurrency {
        staged.push(bench.stage(slot.arm)?);
    }
    wave::run(staged)
}

/// The sample of a machine that should live: one that does not answer again has failed, however fast it was.
pub fn restored(measure: Measure, slot: Slot, ended: &Result<Ended>) -> Sample {
    let checked = match ended {
        Ok(ended) => agent::first_answer(ended.machine.vsock()).map(|retries| (ended, retries)),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    let mut sample = Sample {
        measure,
        slot,
        outcome: Outcome::Ns(0),
        stages: Vec::new(),
        bytes: None,
        retries: 0,
        check_retries: 0,
    };
    match checked {
        Ok((ended, check_retries)) => {
            sample.outcome = Outcome::Ns(ended.ns);
            sample.stages.clone_from(&ended.stages);
            sample.retries = ended.retries;
            sample.check_retries = check_retries;
        }
        Err(error) => sample.outcome = Outcome::Failed(format!("{error:#}")),
    }
    sample
}

/// Reads what machines take that live side by side.
///
/// # Errors
/// When /proc can't be read, no machine comes up, or a signal came.
pub fn memory(bench: &Bench, slots: &[Slot]) -> Result<()> {
    for (index, &slot) in slots.iter().enumerate() {
        progress("memory", slots, index)?;
        let before = smaps::available()?;
        let (ended, _) = begin(bench, slot)?;
        std::thread::sleep(SETTLE);
        let machines: Vec<Box<dyn Machine>> =
            ended.into_iter().flatten().map(|e| e.machine).collect();
        anyhow::ensure!(!machines.is_empty(), "no machine came up to be measured");
        let after = smaps::available()?;
        let file = match slot.arm {
            Arm::Firecracker => firecracker::MEMORY,
            Arm::Prepared | Arm::Cold => microvm::MEMORY,
        };
        let read = |machine: &dyn Machine| -> Result<_> {
            agent::first_answer(machine.vsock())?;
            smaps::of(machine.process_id(), file, bench.guest_bytes())
        };
        let processes = machines.iter().map(|machine| read(machine.as_ref()));
        let processes = processes.collect::<Result<Vec<_>>>()?;
        emit(&[Record::Memory(Memory {
            slot,
            available_delta: i64::try_from(before)? - i64::try_from(after)?,
            processes,
        })])?;
    }
    Ok(())
}
