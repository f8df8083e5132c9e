//! `cargo xtask test`: what must hold before a change lands.
//!
//! ```text
//! unit   fmt → clippy → cargo test → pages in a browser
//! e2e    host up → VMM with guests → baseline → daemon → scenarios → leaks? → daemon down → leaks? → host down
//! ```
//!
//! What e2e needs and cargo has no hand in, the guest's kernel above all, is made beside unit.
//!
//! Every section counts what passed and failed; the last line says the sums.

pub mod leaks;
mod tally;

mod ahead;
mod browser;
mod e2e;
mod guests;
mod unit;

use std::process::ExitCode;

use anyhow::Result;

use super::HostArgs;
use crate::cache::Ctx;
use crate::packages;
use crate::parts::Parts;
use ahead::Ahead;
use tally::Tally;

/// Run the tests: by default all of them.
///
/// The end-to-end part boots real microVMs: on this machine where the doctor passes, else on
/// the lab host. It ends with a check that nothing is left behind.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only formatting, lints, unit tests and the pages in a browser.
    #[arg(long, conflicts_with = "e2e")]
    unit: bool,

    /// Only the pages of reports in a browser.
    #[arg(long, conflicts_with_all = ["unit", "e2e"])]
    browser: bool,

    /// Only the end-to-end part.
    #[arg(long)]
    e2e: bool,

    /// Of the end-to-end scenarios, run only the Python tests whose names match (pytest's -k).
    #[arg(long, short = 'k', value_name = "EXPRESSION", requires = "e2e")]
    keyword: Option<String>,

    /// Of the end-to-end part, run only the VMM's tests with guests, without a daemon.
    #[arg(long, requires = "e2e", conflicts_with = "keyword")]
    vmm: bool,

    /// How many snapshots are taken under a write load and checked.
    #[arg(long, value_name = "N", default_value_t = 8)]
    load_rounds: u32,

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
    let place = match args.unit || args.browser {
        true => None,
        false => Some(args.host.place(ctx)?),
    };
    let ahead = place.map(|place| Ahead::start(ctx, place));
    if !args.e2e && !args.browser {
        unit::run(ctx, &mut tally)?;
    }
    if !args.e2e {
        browser::run(ctx, &mut tally)?;
    }
    if let (Some(place), Some(ahead)) = (place, ahead) {
        Parts::compiled(ctx)?;
        ahead.wait()?;
        let part = match (args.vmm, args.keyword.as_deref()) {
            (true, _) => e2e::Part::Vmm,
            (false, Some(keyword)) => e2e::Part::Keyword(keyword),
            (false, None) => e2e::Part::All,
        };
        e2e::run(ctx, &args.host, place, part, args.load_rounds, &mut tally)?;
    }
    println!("\n{tally}");
    Ok(if tally.good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
