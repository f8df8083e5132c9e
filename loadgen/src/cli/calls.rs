//! `loadgen exec`, `loadgen files` and `loadgen lifecycle`.

use std::process::ExitCode;

use clap::Args;
use reports::model::load::Unit;

use super::CliError;
use super::cold_start::{dimensions, headings as any_headings};
use super::options::{BoundArgs, LoadArgs, OutputArgs, TargetArgs};
use super::stretch::{self, Series};
use crate::e2b::Sandbox;
use crate::pace::parse::Arrivals;
use crate::record::collector::Heading;
use crate::session::{Session, SessionError};
use crate::work::exec::Exec;
use crate::work::files::{Files, content};
use crate::work::lifecycle::{Lifecycle, Step as Life};
use reports::model::load::Clock;

/// How long from a command's request to its exit, and how fast does output come back?
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Sandboxes to go round.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sandboxes: u32,

    /// Ask for so many bytes of output instead of running /bin/true.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 29))]
    output_bytes: Option<u32>,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// How long does a file take into a sandbox and back, and how fast is it?
#[derive(Debug, Args)]
pub struct FilesArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Sandboxes to go round.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sandboxes: u32,

    /// Size of the file.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    bytes: u32,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// How long do pause, resume, snapshot, restore, fork, checkpoint and rollback take?
///
/// Each turn is one sandbox that goes through all steps, and each step is checked: what it must keep is looked at. Workers go one
/// turn after the other (closed loop), and each step counts from its own send.
#[derive(Debug, Args)]
pub struct LifecycleArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Steps to take. Checkpoint and rollback are beyond E2B: leave them out where a server has them not.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "checkpoint,rollback,snapshot,restore,fork,pause,resume,resume-exec"
    )]
    steps: Vec<Life>,

    /// Sandboxes at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    workers: u16,

    #[command(flatten)]
    bounds: BoundArgs,

    #[command(flatten)]
    output: OutputArgs,
}

macro_rules! threads {
    ($($args:ty),*) => {$(
        impl $args {
            /// Threads that send.
            #[must_use]
            pub fn threads(&self) -> u8 {
                self.output.threads
            }
        }
    )*};
}
threads!(ExecArgs, FilesArgs, LifecycleArgs);

/// Headings by name, unit and metric alike, for arrivals on a target.
fn headings(session: &Session, arrivals: &Arrivals, names: &[(&str, Unit)]) -> Vec<Heading> {
    let state = session.settings.host.cache_state.as_deref();
    let dimensions = dimensions(&session.client().target.template, state, arrivals);
    let pattern = any_headings(Clock::Accepted, "", &dimensions, arrivals);
    let blank = pattern.into_iter().next();
    let of = |(name, unit): &(&str, Unit)| {
        blank.clone().map(|blank| Heading {
            name: (*name).to_owned(),
            metric: (*name).to_owned(),
            clock: None,
            unit: *unit,
            ..blank
        })
    };
    names.iter().filter_map(of).collect()
}

/// Makes sandboxes that stay for the whole run.
async fn sandboxes(session: &Session, number: u32) -> Result<Vec<Sandbox>, SessionError> {
    let mut made = Vec::new();
    for _ in 0..number {
        if session.stop.is_tripped() {
            break;
        }
        let sandbox = session.make().await?;
        made.push(sandbox);
    }
    Ok(made)
}

/// Runs `exec`.
///
/// # Errors
/// When the run cannot begin.
pub async fn exec(args: ExecArgs) -> Result<ExitCode, CliError> {
    let session = Session::open(args.output.settings("exec"), vec![args.target.target()?]).await?;
    let output = args
        .output_bytes
        .and_then(|bytes| usize::try_from(bytes).ok());
    let work = Exec {
        client: session.client().clone(),
        sandboxes: sandboxes(&session, args.sandboxes).await?,
        output,
    };
    let arrivals = args.load.arrivals(args.output.seed);
    let mut names = vec![("exec", Unit::Nanoseconds)];
    if output.is_some() {
        names.push(("exec_output", Unit::BytesPerSecond));
    }
    let headings = headings(&session, &arrivals, &names);
    stretch::drive(session, work, series(headings), &args.load, arrivals).await
}

/// Runs `files`.
///
/// # Errors
/// When the run cannot begin.
pub async fn files(args: FilesArgs) -> Result<ExitCode, CliError> {
    let session = Session::open(args.output.settings("files"), vec![args.target.target()?]).await?;
    let size = usize::try_from(args.bytes).unwrap_or(usize::MAX);
    let work = Files {
        client: session.client().clone(),
        sandboxes: sandboxes(&session, args.sandboxes).await?,
        content: content(size, args.output.seed),
    };
    let arrivals = args.load.arrivals(args.output.seed);
    let names = [
        ("file_write", Unit::Nanoseconds),
        ("file_read", Unit::Nanoseconds),
        ("file_write_speed", Unit::BytesPerSecond),
        ("file_read_speed", Unit::BytesPerSecond),
    ];
    let headings = headings(&session, &arrivals, &names);
    stretch::drive(session, work, series(headings), &args.load, arrivals).await
}

/// Runs `lifecycle`.
///
/// # Errors
/// When the run cannot begin.
pub async fn lifecycle(args: LifecycleArgs) -> Result<ExitCode, CliError> {
    let steps: Vec<Life> = Life::ALL
        .into_iter()
        .filter(|step| args.steps.contains(step))
        .collect();
    for step in &steps {
        if let Some(needed) = step.needs().filter(|needed| !steps.contains(needed)) {
            return Err(CliError::Steps {
                step: step.name(),
                needed: needed.name(),
            });
        }
    }
    let settings = args.output.settings("lifecycle");
    let session = Session::open(settings, vec![args.target.target()?]).await?;
    let arrivals = Arrivals::Closed(usize::from(args.workers));
    let names: Vec<_> = steps
        .iter()
        .map(|step| (step.name(), Unit::Nanoseconds))
        .collect();
    let headings = headings(&session, &arrivals, &names);
    let work = Lifecycle {
        client: session.client().clone(),
        ledger: session.ledger().clone(),
        steps,
    };
    let load = LoadArgs {
        arrivals: arrivals.clone(),
        bounds: args.bounds,
        max_in_flight: 0,
    };
    stretch::drive(session, work, series(headings), &load, arrivals).await
}

/// The first of them is shown.
fn series(headings: Vec<Heading>) -> Series {
    Series {
        headings,
        headline: 0,
        note: None,
    }
}
