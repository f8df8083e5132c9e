//! `cargo xtask test`: what must hold before a change lands.
//!
//! ```text
//! unit   fmt → clippy → cargo test
//! e2e    host up → baseline → daemon → scenarios → leaks? → daemon down → leaks? → host down
//! ```
//!
//! Every section counts what passed and failed; the last line says the sums.

pub mod leaks;
mod tally;

mod e2e;
mod unit;

use std::process::ExitCode;

use anyhow::Result;

use super::HostArgs;
use crate::cache::Ctx;
use crate::packages;
use tally::Tally;

/// Run the tests: by default all of them.
///
/// The end-to-end part boots real microVMs: on this machine where the doctor passes, else on
/// the lab host. It ends with a check that nothing is left behind.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only formatting, lints and unit tests.
    #[arg(long, conflicts_with = "e2e")]
    unit: bool,

    /// Only the end-to-end part.
    #[arg(long)]
    e2e: bool,

    /// Of the end-to-end scenarios, run only the Python tests whose names match (pytest's -k).
    #[arg(long, short = 'k', value_name = "EXPRESSION", requires = "e2e")]
    keyword: Option<String>,

    #[command(flatten)]
    host: HostArgs,
}

/// Runs `cargo xtask test`.
///
/// # Errors
/// When the tests can't be run at all; failing tests are an exit status.
pub fn run(ctx: &Ctx, args: &Args) -> Result<ExitCode> {
    packages::ensure(ctx)?;
    let mut tally = Tally::default();
    if !args.e2e {
        unit::run(ctx, &mut tally)?;
    }
    if !args.unit {
        e2e::run(ctx, &args.host, args.keyword.as_deref(), &mut tally)?;
    }
    println!("\n{tally}");
    Ok(if tally.good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
