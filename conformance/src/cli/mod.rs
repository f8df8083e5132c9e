//! The command line.
//!
//! Exit codes: 0 all is as it should be · 1 the target has new failures, or the expected-failures file is stale · 2 wrong
//! usage · 3 no target: dead, wrong, key refused, no sandbox · 4 the suite itself failed · 130 interrupted.

mod command;
mod run;
mod show;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::requirements::List;

/// New failures, or stale entries.
pub const RED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// No target.
pub const NO_TARGET: u8 = 3;
/// The suite itself failed.
pub const HARNESS: u8 = 4;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;

/// Tests whether a server speaks the E2B API.
#[derive(Debug, Parser)]
#[command(
    name = "e2b-conformance",
    version,
    after_help = "Exit codes: 0 green, 1 red, 2 usage, 3 no target, 4 the suite failed, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run checks against a target and write reports.
    Run(Box<run::Args>),
    /// List checks.
    List(show::ListArgs),
    /// Say what a check or a requirement is about.
    Explain(show::ExplainArgs),
    /// Print which requirement is covered by which check, in Markdown.
    Trace,
    /// Compare two JSON reports; exit code 1 when something got worse.
    Diff(show::DiffArgs),
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let list = match List::load() {
        Ok(list) => list,
        Err(error) => return refuse(HARNESS, &error.to_string()),
    };
    match cli.command {
        Command::Run(args) => run::run(&list, *args),
        Command::List(args) => show::list(&list, &args),
        Command::Explain(args) => show::explain(&list, &args),
        Command::Trace => show::trace(&list),
        Command::Diff(args) => show::diff(&args),
    }
}

/// Says why, on standard error.
fn refuse(code: u8, why: &str) -> ExitCode {
    eprintln!("e2b-conformance: {why}");
    ExitCode::from(code)
}
