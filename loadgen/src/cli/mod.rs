//! The command line. What was typed is one type per command; what it means is made of it here and nowhere else.

pub mod cold_start;
pub mod exit;
pub mod options;
pub mod stub;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reports::model::load::Clock;

use crate::e2b::target::TargetError;
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
}

impl CliError {
    fn code(&self) -> u8 {
        match self {
            Self::Target(_) => exit::USAGE,
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
