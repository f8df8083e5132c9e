//! `loadgen replay`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::CliError;
use super::cold_start::{ClockArgs, measured};
use super::options::{BoundArgs, LoadArgs, OutputArgs, TargetArgs};
use crate::pace::parse::{Arrivals, Pattern};
use crate::pace::trace::parse;

/// Longest trace that is read.
const MAX_TRACE: u64 = 1 << 30;

/// Cold starts at the times of a recorded trace.
///
/// A trace has one arrival a line: seconds from its beginning, or a sample of an earlier run (samples.jsonl).
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The trace.
    trace: PathBuf,

    /// So many times as fast as recorded.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,

    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    clock: ClockArgs,

    #[command(flatten)]
    bounds: BoundArgs,

    /// Most turns under way; an arrival that finds as many is dropped, and counted.
    #[arg(long, value_name = "TURNS", default_value_t = 512)]
    max_in_flight: u64,

    #[command(flatten)]
    output: OutputArgs,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text
        .parse()
        .ok()
        .filter(|speed| (1e-3..=1e3).contains(speed));
    speed.ok_or_else(|| "a speed goes from 0.001 to 1000".to_owned())
}

impl ReplayArgs {
    /// Threads that send.
    #[must_use]
    pub fn threads(&self) -> u8 {
        self.output.threads
    }
}

/// Runs the command.
///
/// # Errors
/// When the trace is none, or the run cannot begin.
pub async fn run(args: ReplayArgs) -> Result<ExitCode, CliError> {
    let unread = |source| CliError::Read {
        path: args.trace.clone(),
        source,
    };
    let length = std::fs::metadata(&args.trace).map_err(unread)?.len();
    if length > MAX_TRACE {
        return Err(unread(std::io::ErrorKind::FileTooLarge.into()));
    }
    let text = std::fs::read_to_string(&args.trace).map_err(unread)?;
    let dues = parse(&text).map_err(|source| CliError::Trace {
        path: args.trace.clone(),
        source,
    })?;
    let arrivals = Arrivals::Open(Pattern::Trace {
        dues,
        speed: args.speed,
    });
    let load = LoadArgs {
        arrivals: arrivals.clone(),
        bounds: args.bounds,
        max_in_flight: args.max_in_flight,
    };
    let settings = args.output.settings("replay");
    measured(settings, &args.target, args.clock, &load, arrivals).await
}
