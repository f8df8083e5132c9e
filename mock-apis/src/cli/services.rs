//! `mock-apis services`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::contract::MOCK_DOMAIN;
use super::{CliError, out};
use crate::contract_run::sandboxed::names;

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
    let services = engine.scenario.services.iter();
    let services = services.map(|service| service.name.as_str());
    for name in names(services, &args.mock_domain) {
        out::print(&format!("--internal-service={name}={}\n", args.target))?;
    }
    Ok(ExitCode::SUCCESS)
}
