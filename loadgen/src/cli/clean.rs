//! `loadgen clean`.

use std::process::ExitCode;

use clap::Args;

use super::options::TargetArgs;
use super::{CliError, exit};
use crate::drive::Ledger;
use crate::e2b::Client;

/// Kill the sandboxes of a run that could not clean up after itself.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Name of the run, as its report and its notes say.
    #[arg(long)]
    run: String,

    #[command(flatten)]
    target: TargetArgs,
}

/// Runs the command.
///
/// # Errors
/// When the target cannot be.
pub async fn run(args: CleanArgs) -> Result<ExitCode, CliError> {
    let client = Client::new(args.target.target()?);
    let cleaned = Ledger::new(&args.run).clean(&client).await;
    println!("{} sandboxes killed", cleaned.killed);
    for id in &cleaned.left {
        println!("still there: {id}");
    }
    if let Some(error) = &cleaned.unsure {
        eprintln!("loadgen: what is there is not known: {error}");
        return Ok(ExitCode::from(exit::NO_TARGET));
    }
    Ok(ExitCode::from(if cleaned.left.is_empty() {
        exit::GOOD
    } else {
        exit::BAD
    }))
}
