//! What a person types. Exit codes: 0 fine, 1 a verdict failed, 2 the input is wrong or something could not be done.

mod contract;
mod journal;
mod out;
mod record;
mod serve;
mod services;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use loadgen::e2b::target::TargetError;

use crate::contract_run::files::FilesError;
use crate::contract_run::sandboxed::SandboxError;
use crate::engine::{Engine, EngineError};
use crate::scenario::{self, LoadError};

#[derive(Debug, Parser)]
#[command(
    name = "mock-apis",
    version,
    about = "Mock tool APIs that misbehave on schedule and judge how an agent behaves"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a scenario until Ctrl-C.
    Serve(serve::Args),
    /// Check scenario files and their contracts; each flaw with its line.
    Validate {
        /// The files.
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
    },
    /// Pass calls on to a real API, and write a scenario that answers as it did.
    Record(record::Args),
    /// Print the journal of a server at work.
    Journal(journal::Args),
    /// Make a server at work forget calls, callers and time.
    Reset {
        /// Its admin address.
        #[arg(long, default_value = "127.0.0.1:8901")]
        admin: std::net::SocketAddr,
    },
    /// Run an agent against a scenario and judge it.
    Contract(Box<contract::Args>),
    /// Print what sandboxd is to be started with, so that sandboxes reach the services of a scenario.
    Services(services::Args),
}

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The scenario.
    #[error(transparent)]
    Scenario(#[from] LoadError),
    /// Its contracts.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The API to record.
    #[error(transparent)]
    Upstream(#[from] crate::record::upstream::UpstreamError),
    /// The file of a recording.
    #[error(transparent)]
    Recording(#[from] crate::record::file::FileError),
    /// A socket, a file or a process.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// The folder of results.
    #[error(transparent)]
    Results(#[from] reports::folder::FolderError),
    /// The admin API.
    #[error("the admin API at {0} does not answer as one")]
    Admin(std::net::SocketAddr),
    /// The agent's files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The server of sandboxes.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// An agent in a sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// No server of sandboxes.
    #[error(
        "where are the sandboxes? Name the server with --url and --api-key (or E2B_API_URL and E2B_API_KEY), or add --local to \
         run the agent as a plain process, which isolates nothing"
    )]
    NoTarget,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mock-apis: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Serve(args) => serve::run(args).await,
        Command::Validate { scenarios } => {
            for path in &scenarios {
                let engine = load(path)?;
                let (services, expectations) = (
                    engine.scenario.services.len(),
                    engine.scenario.expectations.len(),
                );
                out::print(&format!(
                    "{}: {services} services, {expectations} expectations\n",
                    path.display()
                ))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Record(args) => record::run(args).await,
        Command::Journal(args) => journal::run(args).await,
        Command::Reset { admin } => journal::reset(admin).await,
        Command::Contract(args) => contract::run(*args).await,
        Command::Services(args) => services::run(&args),
    }
}

/// The scenario at `path`, with its contracts.
fn load(path: &std::path::Path) -> Result<Engine, CliError> {
    let folder = path.parent().unwrap_or(std::path::Path::new("."));
    Ok(Engine::new(scenario::from_path(path)?, folder)?)
}
