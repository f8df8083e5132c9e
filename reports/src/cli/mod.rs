//! The command line.
//!
//! Exit codes: 0 all is well · 1 a regression · 2 wrong usage, or a report that cannot be read or written · 3 nothing that
//! could be compared.

mod gate;
mod import;
mod render;
mod schema;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A regression.
pub const WORSE: u8 = 1;
/// Wrong usage; a report that cannot be read or written.
pub const USAGE: u8 = 2;
/// Nothing could be compared.
pub const NOTHING: u8 = 3;

/// Renders reports and judges them.
#[derive(Debug, Parser)]
#[command(
    name = "reports",
    version,
    after_help = "Exit codes: 0 well, 1 regression, 2 usage or unreadable report, 3 nothing to compare."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make HTML pages, Markdown and CSV of reports.
    Render(render::Args),
    /// Compare two load reports; exit code 1 on a real regression.
    Gate(gate::Args),
    /// Make a report of what another tool measured.
    Import(import::Args),
    /// Print the JSON Schema of reports, or of their samples.
    Schema(schema::Args),
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Render(args) => render::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Import(args) => import::run(args),
        Command::Schema(args) => schema::run(&args),
    }
}

/// Says why, on standard error.
fn refuse(code: u8, why: &impl std::fmt::Display) -> ExitCode {
    eprintln!("reports: {why}");
    ExitCode::from(code)
}
