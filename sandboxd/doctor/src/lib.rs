//! Can this host run microVMs? Probes, each with a reason and a remedy.
//!
//! ```text
//!   /proc, /sys ──► cpu  memory  cgroup  storage ─┐
//!   /dev/kvm ─────► kvm ──► probe (a guest runs) ─┼─► checks ─► Report ─► table or JSON
//!   tun, bpf(2) ──► network ──────────────────────┘
//! ```
//!
//! Nothing is concluded from a file that opens: a TAP is made, a program is loaded, a guest is run
//! through the transitions that a stock kernel needs. Every module keeps its judgement in pure
//! functions and its I/O in one thin one. Nothing the doctor creates outlives its call.
//!
//! ```no_run
//! let report = doctor::report();
//! print!("{}", doctor::render(&report, doctor::Style::for_stdout()));
//! std::process::exit(i32::from(!report.usable));
//! ```

mod cgroup;
mod check;
mod cpu;
mod kvm;
mod memory;
mod mode;
mod network;
pub mod probe;
mod storage;
mod sys;
mod table;

use std::path::PathBuf;

pub use check::{Check, LAB_HINT, Report, Status};
pub use mode::VirtualizationMode;
pub use table::{Style, render};

/// What to examine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the daemon would keep its state; need not exist yet.
    pub state_dir: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/sandboxd"),
        }
    }
}

/// Examines this host as a place for a daemon with its defaults; see [`report_with`].
#[must_use]
pub fn report() -> Report {
    report_with(&Options::default())
}

/// Examines this host. Takes well under a second where guests run, and at most
/// [`probe::TOTAL_TIME`] and a little where they hang.
#[must_use]
pub fn report_with(options: &Options) -> Report {
    let cpu = cpu::read();
    let mut checks = cpu::checks(&cpu);
    let opened = kvm::open();
    let evidence = kvm::evidence(opened.kvm.as_ref(), cpu.extension, cpu.hypervisor);
    checks.push(evidence.check());
    checks.extend(opened.checks);
    if let Some(kvm) = &opened.kvm {
        checks.extend(probe::checks(&probe::run(kvm)));
    }
    checks.extend(network::checks());
    checks.push(cgroup::check());
    checks.extend(memory::checks());
    checks.push(storage::check(&options.state_dir));
    Report::from_checks(evidence.mode(), checks)
}
