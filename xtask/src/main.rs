//! `cargo xtask`: what a person types.

mod cache;
mod child;
mod debs;
mod exec;
mod lab;
mod lab_command;
mod progress;
mod signals;

use std::process::ExitCode;

use anyhow::Result;
use cache::Ctx;
use clap::{Parser, Subcommand};

/// Set up, run and test the sandbox daemon on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Lab(lab_command::Args),
    /// First program of a lab (for internal use).
    #[command(hide = true)]
    LabInit,
    /// Agent of a lab (for internal use).
    #[command(hide = true)]
    LabServe,
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
        Task::Lab(args) => lab_command::run(&Ctx::new()?, args),
        Task::LabInit => {
            if let Err(error) = lab::init::run() {
                eprintln!("lab-init: FAILED: {error:#}");
            }
            lab::init::power_off();
            Ok(ExitCode::FAILURE)
        }
        Task::LabServe => lab::init::serve().map(|()| ExitCode::SUCCESS),
    }
}
