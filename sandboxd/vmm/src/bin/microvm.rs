//! `microvm`: one KVM microVM in one process.
//!
//! ```text
//!   microvm --id ID --control PATH      waits on a control socket (see vmm::control), outlives whoever started it
//!   microvm run --config FILE           boots at once; for people who debug guests
//! ```
//!
//! Exit status: 0 the guest or a client ended it, 1 it could not go on, 2 bad usage, 3 the guest's kernel panicked.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use tracing::{error, info};
use tracing_subscriber::filter::LevelFilter;
use vmm::config::MachineConfig;
use vmm::control::server::Server;
use vmm::exit::{Exit, ExitCell};
use vmm::logging::Bounded;
use vmm::machine::Options;
use vmm::process;
use vmm::service::MachineService;

/// Runs one microVM on /dev/kvm.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<Serve>,
    /// What is logged to standard error: off, error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "info")]
    log_level: LevelFilter,
}

#[derive(Args)]
struct Serve {
    /// Name of the machine, given back by `hello`.
    #[arg(long)]
    id: String,
    /// Unix socket to make and to take control requests from.
    #[arg(long)]
    control: PathBuf,
    /// Standard input is a connected Unix socket: take control requests from it too, and end when it closes before there is
    /// a machine.
    #[arg(long)]
    control_stdin: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Boots a machine at once and stays in the foreground until it ends.
    Run {
        /// JSON file with the machine's configuration.
        #[arg(long)]
        config: PathBuf,
        /// Also takes control requests from this unix socket.
        #[arg(long)]
        control: Option<PathBuf>,
        /// Prints the guest's serial output.
        #[arg(long)]
        serial_stdout: bool,
        /// Leaves all system calls allowed, for tracing and profiling.
        #[arg(long)]
        no_seccomp: bool,
    },
}

fn main() -> ExitCode {
    let started_ns = process::monotonic_ns();
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(cli.log_level)
        .with_ansi(false)
        .with_writer(Bounded::stderr())
        .init();
    match run(cli, started_ns) {
        Ok(end) => {
            info!(reason = ?end.reason, detail = end.detail, "the machine ended");
            ExitCode::from(end.status())
        }
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, started_ns: u64) -> Result<Exit, Box<dyn std::error::Error>> {
    process::restrict()?;
    let signals = process::take_signals()?;
    let status = process::Status::open()?;
    let exit = Arc::new(ExitCell::new()?);
    let service = |id: &str, options| {
        MachineService::new(
            id.to_owned(),
            options,
            Arc::clone(&exit),
            status,
            started_ns,
        )
    };
    let (mut service, mut server) = match (cli.command, cli.serve) {
        (
            Some(Command::Run {
                config,
                control,
                serial_stdout,
                no_seccomp,
            }),
            _,
        ) => {
            let options = Options {
                serial_stdout,
                seccomp: !no_seccomp,
            };
            let mut service = service("run", options);
            let server =
                control.map_or_else(|| Ok(Server::silent()), |path| Server::bind(&path))?;
            service.boot(&read_config(&config)?)?;
            (service, server)
        }
        (None, Some(serve)) => {
            process::detach();
            let options = Options {
                serial_stdout: false,
                seccomp: true,
            };
            let mut server = Server::bind(&serve.control)?;
            if serve.control_stdin {
                server.begin_with(process::take_stdin()?)?;
            }
            (service(&serve.id, options), server)
        }
        (None, None) => return Err("give --id and --control, or the subcommand run".into()),
    };
    let end = server.run(&mut service, &exit, &signals)?;
    let end = service.conclude(end);
    server.announce(&end);
    Ok(end)
}

fn read_config(path: &PathBuf) -> Result<MachineConfig, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!(
            "the configuration {} cannot be read: {error}",
            path.display()
        )
    })?;
    let config = serde_json::from_str(&text)
        .map_err(|error| format!("the configuration {} is refused: {error}", path.display()))?;
    Ok(config)
}
