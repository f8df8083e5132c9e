//! `gate`: is the new run really slower than the baseline?

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `gate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the baseline's run.
    baseline: PathBuf,
    /// Folder of the new run.
    new: PathBuf,
}

pub fn run(args: &Args) -> ExitCode {
    let _ = (&args.baseline, &args.new);
    ExitCode::SUCCESS
}
