//! `loadgen probe`, and the options of commands that look at a host.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::CliError;
use super::options::{OutputArgs, duration};
use crate::probe::reading::here;
use crate::probe::{Probe, Question, serve};

/// What is looked for on the server's machine.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Host")]
pub struct ProbeArgs {
    /// Name of the processes that hold sandboxes.
    #[arg(long, value_name = "NAME", default_value = "microvm")]
    process: String,

    /// Name of the daemon.
    #[arg(long, value_name = "NAME", default_value = "sandboxd")]
    daemon: String,

    /// A folder of the service whose files are counted in the ledger of leaks; may be repeated.
    #[arg(long = "count-files", value_name = "DIR")]
    folders: Vec<PathBuf>,

    /// How long counts may take to come back to what they were, at the end.
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = duration)]
    pub settle: Duration,
}

impl ProbeArgs {
    /// What to look for, and how; `None` where there is no way to the host.
    #[must_use]
    pub fn probe(&self, output: &OutputArgs) -> Option<Probe> {
        Some(Probe {
            question: Question {
                process: self.process.clone(),
                daemon: self.daemon.clone(),
                guest_bytes: None,
                folders: self.folders.clone(),
            },
            way: output.way()?,
        })
    }
}

/// Look at this machine for a measurement that runs elsewhere.
#[derive(Debug, Args)]
pub struct CollectorArgs {
    /// Answer questions at this address until killed; only people who may count this machine's processes should reach it.
    #[arg(long, value_name = "ADDR", required_unless_present = "question")]
    listen: Option<SocketAddr>,

    /// Answer this one question (JSON) and end.
    #[arg(long, value_name = "JSON", conflicts_with = "listen", value_parser = question)]
    question: Option<Question>,
}

fn question(text: &str) -> Result<Question, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Runs `loadgen probe`.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(args: CollectorArgs) -> Result<ExitCode, CliError> {
    if let Some(question) = &args.question {
        let reading = serde_json::to_string(&here(question)).map_err(std::io::Error::from)?;
        println!("{reading}");
    }
    if let Some(listen) = args.listen {
        serve::serve(listen, |at| println!("listening on {at}")).await?;
    }
    Ok(ExitCode::SUCCESS)
}
