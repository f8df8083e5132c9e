//! `mock-apis contract --local`: runs an agent as a plain process against a scenario, then judges it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use reports::folder;

use super::CliError;
use crate::contract_run::report::{self, About};
use crate::contract_run::{self, table};
use crate::verdict::Outcome;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario file.
    #[arg(long)]
    scenario: PathBuf,
    /// The agent's command; words are parted by spaces.
    #[arg(long)]
    agent: String,
    /// Run it as a plain process, without a sandbox. The report says so.
    #[arg(long)]
    local: bool,
    /// Longest run of the agent, in seconds.
    #[arg(long, default_value_t = 120)]
    timeout_s: u64,
    /// Write report.json (for `reports render`), junit.xml and journal.jsonl into this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write the result here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the result here as JUnit XML.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Write the journal here, one JSON object per line.
    #[arg(long)]
    journal: Option<PathBuf>,
}

/// Runs, judges, prints.
pub async fn run(args: Args) -> Result<ExitCode, CliError> {
    if !args.local {
        return Err(CliError::NotLocal);
    }
    let engine = super::load(&args.scenario)?;
    let about = About {
        command: std::iter::once("mock-apis".to_owned())
            .chain(std::env::args().skip(1))
            .collect(),
        started: jiff::Timestamp::now(),
    };
    let words: Vec<String> = args.agent.split_whitespace().map(str::to_owned).collect();
    let run = contract_run::local(engine, &words, Duration::from_secs(args.timeout_s))
        .await
        .map_err(|error| CliError::Io(args.agent.clone(), error))?;
    super::out::print(&table::text(&run))?;
    let (junit, journal) = (table::junit(&run), run.journal_lines());
    if let Some(out) = &args.out {
        let runs = std::slice::from_ref(&run);
        folder::write(out, &report::report(runs, about))?;
        folder::write_file(out, "junit.xml", &junit)?;
        folder::write_file(out, "journal.jsonl", &journal)?;
    }
    let json = serde_json::to_string_pretty(&run).unwrap_or_default();
    let files = [
        (&args.json, json),
        (&args.junit, junit),
        (&args.journal, journal),
    ];
    for (path, text) in files {
        if let Some(path) = path {
            std::fs::write(path, text)
                .map_err(|error| CliError::Io(path.display().to_string(), error))?;
        }
    }
    let failed = run
        .verdicts
        .iter()
        .any(|verdict| verdict.outcome == Outcome::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
