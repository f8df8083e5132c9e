//! The command line. What was typed is one type per command; what it means is made of it here and nowhere else.

pub mod calls;
pub mod clean;
pub mod cold_start;
pub mod compare;
pub mod density;
pub mod doctor;
pub mod exit;
pub mod knee;
pub mod options;
pub mod probing;
pub mod replay;
pub mod soak;
pub mod stretch;
pub mod stub;
pub mod sweep;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reports::model::load::Clock;

use crate::e2b::target::TargetError;
use crate::pace::parse::PatternError;
use crate::pace::trace::TraceError;
use crate::probe::ProbeError;
use crate::session::SessionError;

/// Measures services that speak the E2B API: cold starts, calls, lives, density.
///
/// Arrivals come on a schedule and latency counts from when a request was due (open loop), unless asked otherwise. Failures stand
/// beside latency, never inside it. Results are a folder: report.json, raw samples, HDR histograms.
#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version,
    after_help = "Exit codes: 0 good; 1 measured, with failures; 2 usage; 3 no target, or it went away; 4 results could not be \
                  written; 130 interrupted (what was measured is kept)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    ColdStart(Box<cold_start::ColdStartArgs>),
    Sweep(Box<sweep::SweepArgs>),
    Density(Box<density::DensityArgs>),
    Lifecycle(Box<calls::LifecycleArgs>),
    Exec(Box<calls::ExecArgs>),
    Files(Box<calls::FilesArgs>),
    Soak(Box<soak::SoakArgs>),
    Compare(Box<compare::CompareArgs>),
    Replay(Box<replay::ReplayArgs>),
    Doctor(Box<doctor::DoctorArgs>),
    Clean(Box<clean::CleanArgs>),
    Probe(Box<probing::CollectorArgs>),
    Stub(Box<stub::StubArgs>),
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The target cannot be.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The run could not begin.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The system refuses something.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// A rate that is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A step without the one before it.
    #[error("the step {step} needs the step {needed}")]
    Steps {
        /// The step.
        step: &'static str,
        /// What it needs.
        needed: &'static str,
    },
    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A trace that is none.
    #[error("{} is no trace: {source}", path.display())]
    Trace {
        /// Which.
        path: PathBuf,
        /// Why.
        source: TraceError,
    },
    /// The server's machine cannot be looked at.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// No way to the server's machine.
    #[error("density reads the server's memory: give --on-host, --remote-probe or --probe-command")]
    NoProbe,
}

impl CliError {
    fn code(&self) -> u8 {
        match self {
            Self::Target(_)
            | Self::Pattern(_)
            | Self::Steps { .. }
            | Self::Read { .. }
            | Self::Trace { .. }
            | Self::NoProbe => exit::USAGE,
            Self::Probe(_) => exit::NO_TARGET,
            Self::Session(SessionError::Preflight(_)) => exit::NO_TARGET,
            Self::Session(SessionError::Taken(_)) => exit::USAGE,
            Self::Session(_) | Self::System(_) => exit::OUTPUT,
        }
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::ColdStart(args) => on(args.threads(), cold_start::run(*args)),
        Command::Sweep(args) => on(args.threads(), sweep::run(*args)),
        Command::Density(args) => on(args.threads(), density::run(*args)),
        Command::Lifecycle(args) => on(args.threads(), calls::lifecycle(*args)),
        Command::Exec(args) => on(args.threads(), calls::exec(*args)),
        Command::Files(args) => on(args.threads(), calls::files(*args)),
        Command::Soak(args) => on(args.threads(), soak::run(*args)),
        Command::Compare(args) => on(args.threads(), compare::run(*args)),
        Command::Replay(args) => on(args.threads(), replay::run(*args)),
        Command::Doctor(args) => on(1, doctor::run(*args)),
        Command::Clean(args) => on(1, clean::run(*args)),
        Command::Probe(args) => on(1, probing::run(*args)),
        Command::Stub(args) => stub::run(*args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("loadgen: {error}");
        ExitCode::from(error.code())
    })
}

/// Runs a command on its threads.
fn on(
    threads: u8,
    command: impl Future<Output = Result<ExitCode, CliError>>,
) -> Result<ExitCode, CliError> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        more => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(usize::from(more));
            builder
        }
    };
    builder.enable_all().build()?.block_on(command)
}

/// A sentence where sandboxes were not checked.
#[must_use]
pub fn verified(clock: Clock, verify: bool) -> Option<String> {
    let unseen = matches!(clock, Clock::Accepted | Clock::Ready);
    (unseen && !verify).then(|| {
        "No command was run in the sandboxes: whether they work was not looked at.".to_owned()
    })
}
