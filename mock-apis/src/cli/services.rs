//! `mock-apis services`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::contract::MOCK_DOMAIN;
use super::{CliError, out};
use crate::mcp;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario file.
    scenario: PathBuf,
    /// Where the mocks listen, seen from the daemon's host.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8900")]
    target: String,
    /// What follows a service's name in the name that sandboxes call it by.
    #[arg(long, value_name = "DOMAIN", default_value = MOCK_DOMAIN)]
    mock_domain: String,
}

/// Prints a flag of the daemon's for each service.
pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    let engine = super::load(&args.scenario)?;
    let (domain, target) = (&args.mock_domain, &args.target);
    let services = engine.scenario.services.iter();
    let mut names: Vec<_> = services.map(|service| service.name.as_str()).collect();
    if !names.contains(&mcp::NAME) {
        names.push(mcp::NAME);
    }
    for name in names {
        out::print(&format!("--internal-service={name}.{domain}={target}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
