//! `cargo xtask`: what a person types to set up, run and test the sandbox daemon.
//!
//! ```text
//! commands/   one module per command
//!    │  script  daemon  parts  sdks  packages
//!    │     └──────┴─ host (this machine or a lab) ─ exec, lab/
//!    └── artifacts/  debs ─ cache, progress
//! ```

mod artifacts;
mod cache;
mod cargo;
mod child;
mod commands;
mod daemon;
mod debs;
mod exec;
mod host;
mod lab;
mod mocks;
mod packages;
mod parts;
mod progress;
mod script;
mod sdks;
mod signals;

use std::process::ExitCode;

use anyhow::Result;
use cache::Ctx;
use clap::{Parser, Subcommand};
use commands::{contract, demo, doctor, lab as lab_command, measure, peers, setup, test, up};

/// Set up, run and test the sandbox daemon on this machine.
///
/// Start with `cargo xtask demo`: it sets up what is missing, boots microVMs and drives them
/// with E2B's own SDKs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Setup(setup::Args),
    Doctor(doctor::Args),
    Up(up::Args),
    Demo(demo::Args),
    Test(test::Args),
    Measure(measure::Args),
    Contract(contract::Args),
    Peers(peers::Args),
    Lab(lab_command::Args),
    /// First program of a lab (for internal use).
    #[command(hide = true)]
    LabInit,
    /// Agent of a lab (for internal use).
    #[command(hide = true)]
    LabServe,
    /// The part of `peers` that runs on the measured host (for internal use).
    #[command(hide = true)]
    PeersDrive {
        /// The plan, as JSON.
        plan: String,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Task::Setup(args) => setup::run(&Ctx::new()?, &args),
        Task::Doctor(args) => doctor::run(&Ctx::new()?, &args),
        Task::Up(args) => up::run(&Ctx::new()?, &args),
        Task::Demo(args) => demo::run(&Ctx::new()?, &args),
        Task::Test(args) => test::run(&Ctx::new()?, &args),
        Task::Measure(args) => measure::run(&Ctx::new()?, &args),
        Task::Contract(args) => contract::run(&Ctx::new()?, &args),
        Task::Peers(args) => peers::run(&Ctx::new()?, &args),
        Task::Lab(args) => lab_command::run(&Ctx::new()?, args),
        Task::LabInit => {
            if let Err(error) = lab::init::run() {
                eprintln!("lab-init: FAILED: {error:#}");
            }
            lab::init::power_off();
            Ok(ExitCode::FAILURE)
        }
        Task::LabServe => lab::init::serve().map(|()| ExitCode::SUCCESS),
        Task::PeersDrive { plan } => peers::drive(&plan).map(|()| ExitCode::SUCCESS),
    }
}
