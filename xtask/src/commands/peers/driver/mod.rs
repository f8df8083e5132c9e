//! The part of `peers` that runs on the measured host: it starts machines of both programs and writes down what it saw.
//!
//! ```text
//!   programs, kernel, disks ─► tmpfs ─► a template of each program ─► blocks of the plan ─► lines on standard output
//!                                                                        │
//!                              calibrate ─► stage ─► the clock ─► answers ─► ask once more ─► kill ─► write lines
//! ```
//!
//! Nothing is written while something is being timed. Everything lies on tmpfs, so the page cache is warm for both by nature.

mod agent;
pub mod files;
mod firecracker;
mod host;
mod http;
mod machine;
mod microvm;
mod operations;
mod process;
mod restores;
mod smaps;
mod watch;
mod wave;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use self::machine::Staged;
use super::plan::{Arm, Plan, Slot};
use super::record::Record;
use crate::signals;

/// How long anything may take: fifty restores at once take seconds on an emulated host.
const PATIENCE: Duration = Duration::from_secs(90);

/// Memory that is a file system everywhere: shm_overview(7).
const SCRATCH: &str = "/dev/shm";

/// Carries out a plan, given as JSON.
///
/// # Errors
/// When a template can't be made, or the run is interrupted; a single machine's failure is a sample.
pub fn run(plan: &str) -> Result<()> {
    let plan: Plan = serde_json::from_str(plan).context("this is no plan")?;
    signals::catch()?;
    let scratch = tempfile::Builder::new()
        .prefix("peers-")
        .tempdir_in(SCRATCH)
        .with_context(|| format!("could not make a folder in {SCRATCH}"))?;
    let plan = on_scratch(plan, scratch.path())?;
    emit(&[Record::Environment(host::environment(
        &plan,
        scratch.path(),
    )?)])?;
    for &memory_mib in &plan.memory_mib {
        eprintln!("peers: templates of {memory_mib} MiB");
        let bench = Bench::new(&plan, memory_mib, scratch.path())?;
        // What a first run of each program pays is nobody's latency.
        for arm in Arm::ALL {
            wave::run(vec![bench.stage(arm)?])?;
        }
        for &concurrency in &plan.concurrency {
            restores::run(&bench, &plan.restores(memory_mib, concurrency))?;
        }
        operations::run(&bench, &plan.operations(memory_mib))?;
        restores::memory(&bench, &plan.memory(memory_mib))?;
    }
    Ok(())
}

/// Both programs, ready to make machines of one size.
struct Bench {
    firecracker: firecracker::Template,
    microvm: microvm::Template,
    memory_mib: u32,
    base: PathBuf,
}

impl Bench {
    fn new(plan: &Plan, memory_mib: u32, base: &Path) -> Result<Self> {
        let firecracker = firecracker::Template::make(plan, memory_mib, base)
            .context("Firecracker's template")?;
        let microvm = microvm::Template::make(plan, memory_mib, base).context("our template")?;
        eprintln!(
            "peers: snapshots take {} MiB and {} MiB (ours)",
            firecracker.bytes()? >> 20,
            microvm.bytes()? >> 20
        );
        Ok(Self {
            firecracker,
            microvm,
            memory_mib,
            base: base.to_owned(),
        })
    }

    /// Everything up to the moment that is timed from.
    fn stage(&self, arm: Arm) -> Result<Box<dyn Staged>> {
        match arm {
            Arm::Firecracker => self.firecracker.stage(&self.base, false),
            Arm::Prepared => self.microvm.stage(&self.base, true),
            Arm::Cold => self.microvm.stage(&self.base, false),
        }
    }

    fn guest_bytes(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The next size needs the room.
        self.firecracker.remove();
        self.microvm.remove();
    }
}

/// The same plan with everything that is read while measuring in memory.
fn on_scratch(mut plan: Plan, scratch: &Path) -> Result<Plan> {
    for (path, name) in [
        (&mut plan.firecracker, "firecracker"),
        (&mut plan.microvm, "microvm"),
        (&mut plan.kernel, "vmlinux"),
        (&mut plan.agent_disk, "agent.erofs"),
        (&mut plan.rootfs, "rootfs.erofs"),
    ] {
        let copy = scratch.join(name);
        files::copy_sparse(path, &copy)?;
        *path = copy;
    }
    let overlay = scratch.join("overlay.ext4");
    files::copy_pieces(&plan.overlay, &overlay, &plan.overlay_pieces)?;
    plan.overlay = overlay;
    Ok(plan)
}

/// Writes lines; all at once, so that a pipe is not a part of what is timed next.
fn emit(records: &[Record]) -> Result<()> {
    let mut text = Vec::new();
    for record in records {
        serde_json::to_writer(&mut text, record)?;
        text.push(b'\n');
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&text)?;
    Ok(out.flush()?)
}

/// Says now and then how far it is; fails when a signal came.
fn progress(what: &str, slots: &[Slot], index: usize) -> Result<()> {
    signals::check()?;
    let every = (slots.len() / 10).max(1);
    if let Some(slot) = slots.get(index).filter(|_| index.is_multiple_of(every)) {
        eprintln!(
            "peers: {what}, {} MiB, {} at once: block {} of {}",
            slot.memory_mib,
            slot.concurrency,
            index + 1,
            slots.len()
        );
    }
    Ok(())
}
