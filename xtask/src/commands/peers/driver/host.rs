//! The host as the driver finds it, and how fast it is right now.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::machine::nanoseconds;
use super::smaps;
use crate::commands::peers::plan::Plan;
use crate::commands::peers::record::Environment;
use reports::stats::random::Random;

/// Rounds of the calibration: a few milliseconds natively.
const WORK: usize = 1_000_000;
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: i64 = 0x0102_1994;

/// Times a fixed amount of arithmetic: what a change of the machine's speed changes, and nothing of ours does.
#[must_use]
pub fn calibrate() -> u64 {
    let started = Instant::now();
    let mut random = Random::new(1);
    let mut sum = 0_u64;
    for _ in 0..WORK {
        sum = sum.wrapping_add(black_box(&mut random).bits());
    }
    black_box(sum);
    nanoseconds(started.elapsed())
}

/// Describes the host; `base` is where everything lies.
///
/// # Errors
/// When a program doesn't tell its version, or /proc isn't there.
pub fn environment(plan: &Plan, base: &Path) -> Result<Environment> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("no /proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, model)| model.trim());
    let uname = rustix::system::uname();
    let kernel = [uname.sysname(), uname.release(), uname.version()]
        .map(|word| word.to_string_lossy().into_owned())
        .join(" ");
    let kind = rustix::fs::statfs(base)?.f_type;
    Ok(Environment {
        processor: model.to_owned(),
        processors: std::thread::available_parallelism()?.get(),
        memory_mib: smaps::meminfo("MemTotal:")? >> 20,
        kernel,
        file_system: match kind {
            TMPFS => "tmpfs".to_owned(),
            other => format!("{other:#x}"),
        },
        versions: vec![
            ("firecracker".to_owned(), version(&plan.firecracker)?),
            ("microvm".to_owned(), version(&plan.microvm)?),
        ],
    })
}

/// The first line of what a program says of itself.
fn version(program: &Path) -> Result<String> {
    let told = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("could not start {}", program.display()))?;
    let text = String::from_utf8_lossy(&told.stdout);
    let line = text.lines().next().filter(|line| !line.is_empty());
    Ok(line
        .with_context(|| format!("{} tells no version", program.display()))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_takes_time() {
        assert!(calibrate() > 100_000);
    }

    #[test]
    fn a_program_without_a_version_is_refused() {
        assert!(version(Path::new("/bin/true")).is_ok_and(|told| told.contains("true")));
        assert!(version(Path::new("/bin/false-friend")).is_err());
    }
}
