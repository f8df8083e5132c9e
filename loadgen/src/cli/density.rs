//! `loadgen density`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use reports::model::load::{Clock, Density};

use super::CliError;
use super::cold_start::{dimensions, headings};
use super::options::{OutputArgs, TargetArgs, duration};
use super::probing::ProbeArgs;
use crate::climb::Climb;
use crate::drive::ledger::Cleaned;
use crate::live::Live;
use crate::pace::parse::Arrivals;
use crate::probe::ledger::{grown, settle};
use crate::session::{Extras, Session};

/// Life of a sandbox that has to be there until the last one is, in seconds: the longest that E2B's own hosts give to all.
const LONG: u32 = 3_600;

/// How many sandboxes fit, and what does each cost the host?
///
/// Steps up live sandboxes until one is refused, one does not answer in time, or memory runs short; at each step every sandbox
/// answers a command and the host's memory is read. At the end all are killed and what is left on the host is counted.
#[derive(Debug, Args)]
pub struct DensityArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Numbers of live sandboxes at which to read.
    #[arg(long, value_delimiter = ',', default_value = "1,10,50,100,200,300,400,500,600,700,800,900,1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: Vec<u32>,

    /// A sandbox counts while it answers a command within this.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    bound: Duration,

    /// Quiet time before a reading.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    rest: Duration,

    /// A shell command that each new sandbox runs once; its memory is read before and after it.
    #[arg(long, value_name = "COMMAND")]
    workload: Option<String>,

    /// Stop before less of the host's memory than this is available.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    keep_free_mib: u32,

    /// Memory of a guest, where the API does not tell it.
    #[arg(long, value_name = "MIB")]
    guest_mib: Option<u32>,

    #[command(flatten)]
    probe: ProbeArgs,

    #[command(flatten)]
    output: OutputArgs,
}

impl DensityArgs {
    /// Threads that send.
    #[must_use]
    pub fn threads(&self) -> u8 {
        self.output.threads
    }
}

/// Runs the command.
///
/// # Errors
/// When the run cannot begin, or the host cannot be read.
pub async fn run(args: DensityArgs) -> Result<ExitCode, CliError> {
    let probe = args.probe.probe(&args.output).ok_or(CliError::NoProbe)?;
    let mut target = args.target.target()?;
    target.limits.call = args.bound;
    target.limits.sandbox_seconds = args.target.way.sandbox_seconds.unwrap_or(LONG);
    let mut session = Session::open(args.output.settings("density"), vec![target]).await?;
    let before = probe.read(None).await?;
    let arrivals = Arrivals::Closed(1);
    let state = session.settings.host.cache_state.as_deref();
    let dimensions = dimensions(&args.target.way.template, state, &arrivals);
    let headings = headings(Clock::FirstExec, "", &dimensions, &arrivals);
    let live = Arc::new(Live::new(1));
    let recorder = session
        .recorder(headings, &live)
        .map_err(crate::session::SessionError::from)?;
    let began = session.begin();
    let mut steps = args.steps.clone();
    steps.sort_unstable();
    steps.dedup();
    let mut climb = Climb {
        client: session.client().clone(),
        ledger: session.ledger().clone(),
        stop: session.stop.clone(),
        events: recorder.sender(),
        probe: probe.clone(),
        before: before.clone(),
        began,
        rest: args.rest,
        workload: args.workload.clone(),
        keep_free: u64::from(args.keep_free_mib) << 20,
        guest_bytes: args.guest_mib.map(|mib| u64::from(mib) << 20),
        quiet: args.output.quiet,
        alive: Vec::new(),
        rows: Vec::new(),
        peak: None,
    };
    let stop = climb.up(&steps).await?;
    let (rows, peak, guest) = (
        std::mem::take(&mut climb.rows),
        climb.peak.take(),
        climb.guest_bytes,
    );
    drop(climb);
    let recorded = recorder.finish();
    let killing = Instant::now();
    let cleaned: Cleaned = session.ledger().clean(session.client()).await;
    let killed = format!(
        "{} sandboxes killed in {:.1} s.",
        cleaned.killed,
        killing.elapsed().as_secs_f64()
    );
    // Its connections would count as descriptors that the daemon has more than before.
    session.client().rest();
    let after = settle(&probe, &before, args.probe.settle).await?;
    let (leaks, some) = grown(&before, peak.as_ref(), &after);
    let silent = rows.iter().any(|row| row.silent > 0);
    let extras = Extras {
        density: Some(Density {
            answer_bound_ns: u64::try_from(args.bound.as_nanos()).unwrap_or(u64::MAX),
            guest_memory_bytes: guest,
            rows,
            stop,
        }),
        leaks: Some(leaks),
        notes: vec![
            killed,
            "Processes that wait with a guest's memory in place are counted in the means of processes.".to_owned(),
        ],
        bad: some || silent,
        ..Extras::default()
    };
    Ok(session.close(recorded, extras).await)
}
