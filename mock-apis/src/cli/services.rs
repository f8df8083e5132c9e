//! `mock-apis services`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::contract::MOCK_DOMAIN;
use super::{CliError, out};

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
    for service in &engine.scenario.services {
        out::print(&format!(
            "--internal-service={}.{domain}={target}\n",
            service.name
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
