//! `loadgen soak`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reports::model::load::{Clock, Comparison};

use super::CliError;
use super::cold_start::{ClockArgs, dimensions, headings, word};
use super::options::{OutputArgs, TargetArgs, duration};
use super::probing::ProbeArgs;
use crate::compare::{Level, Rounds, judge};
use crate::pace::Bounds;
use crate::pace::parse::Arrivals;
use crate::probe::ledger::{grown, settle};
use crate::record::collector::Collector;
use crate::session::running::warm_up;
use crate::session::{Extras, Running, Session, Step};
use crate::work::cold_start::ColdStart;

/// Blocks that a soak is cut into; the last third is held against the first.
const BLOCKS: u32 = 30;

/// Churn for a long time: does anything leak, does anything get slower?
///
/// Sandboxes come and go on a schedule. With a probe (--on-host, --remote-probe or --probe-command) the host's processes, network
/// devices, mounts, descriptors, cgroups and files are counted before and after.
#[derive(Debug, Args)]
pub struct SoakArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    clock: ClockArgs,

    /// When sandboxes are asked for; see cold-start.
    #[arg(long, short, default_value = "poisson:1")]
    arrivals: Arrivals,

    /// For how long.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    duration: Duration,

    /// Most turns under way.
    #[arg(long, value_name = "TURNS", default_value_t = 512)]
    max_in_flight: u64,

    #[command(flatten)]
    probe: ProbeArgs,

    #[command(flatten)]
    output: OutputArgs,
}

impl SoakArgs {
    /// Threads that send.
    #[must_use]
    pub fn threads(&self) -> u8 {
        self.output.threads
    }
}

/// Runs the command.
///
/// # Errors
/// When the run cannot begin.
pub async fn run(args: SoakArgs) -> Result<ExitCode, CliError> {
    let (verify, clock) = (!args.clock.no_verify, Clock::from(args.clock.clock));
    let probe = args.probe.probe(&args.output);
    let mut session =
        Session::open(args.output.settings("soak"), vec![args.target.target()?]).await?;
    let work = ColdStart::one(
        session.client().clone(),
        session.ledger().clone(),
        clock,
        verify,
    );
    let mut extras = Extras {
        warm_up: warm_up(&work, 5, &session.stop).await,
        ..Extras::default()
    };
    extras.notes.extend(super::verified(clock, verify));
    let before = match &probe {
        Some(probe) => Some(probe.read(None).await?),
        None => None,
    };
    if let Some(before) = &before {
        session.settings.host.probed = Some(before.machine.clone());
    } else {
        extras.notes.push(
            "Nobody looked at the host: whether anything leaked there is not known.".to_owned(),
        );
    }
    let state = session.settings.host.cache_state.clone();
    let dimensions = dimensions(&args.target.way.template, state.as_deref(), &args.arrivals);
    let mut all = headings(clock, "", &dimensions, &args.arrivals);
    let headline = usize::from(clock != Clock::Accepted);
    for heading in &mut all {
        heading.keep_rounds = true;
    }
    let running = Running::start(&mut session, work, all, headline, None)?;
    let step = Step {
        arrivals: args.arrivals.clone(),
        bounds: Bounds {
            number: None,
            duration: Some(args.duration),
        },
        max_in_flight: args.max_in_flight,
        side: 0,
        round: None,
    };
    running
        .drive_in(&step, crate::drive::Rounds::Time(args.duration / BLOCKS))
        .await?;
    let recorded = running.finish();
    if let Some(collector) = recorded.collectors.get(headline) {
        extras.comparisons.extend(drift(
            collector,
            word(clock),
            Level::usual(args.output.seed),
        ));
    }
    if let (Some(probe), Some(before)) = (probe, before) {
        // Its connections would count as descriptors that the daemon has more than before.
        session.client().rest();
        let after = settle(&probe, &before, args.probe.settle).await?;
        let (leaks, some) = grown(&before, None, &after);
        extras.leaks = Some(leaks);
        extras.bad |= some;
    }
    Ok(session.close(recorded, extras).await)
}

/// The last third against the first, block by block.
fn drift(collector: &Collector, clock: &str, level: Level) -> Option<Comparison> {
    let third = BLOCKS / 3;
    let mut rounds = Rounds::new();
    for (round, values) in &collector.rounds {
        if *round < third {
            rounds.entry(*round).or_default().0.extend(values);
        } else if *round >= BLOCKS - third {
            rounds
                .entry(round - (BLOCKS - third))
                .or_default()
                .1
                .extend(values);
        }
    }
    let name = &collector.heading.name;
    let title = format!(
        "drift of {clock}: the last third (B) against the first (A); not side by side, so the machine's own drift is in it"
    );
    judge(&title, (name, name), &rounds, level)
}
