//! The command line of the daemon.
//!
//! ```text
//!   sandboxd serve [--config FILE] …       run the daemon
//!   sandboxd key create|list|revoke        manage API keys
//!   sandboxd doctor [--json]               examine the host
//! ```

mod doctor;
mod key;
mod serve;
mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs sandboxes as KVM microVMs behind the E2B API.
#[derive(Debug, Parser)]
#[command(name = "sandboxd", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Serve(Box<settings::ServeArgs>),
    /// Manage API keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Examine whether this host can run sandboxes
    Doctor(doctor::DoctorArgs),
}

/// Runs the program with the process's arguments and environment.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Key(command) => key::run(command).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("sandboxd: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
