//! `loadgen sweep`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reports::model::load::Clock;

use super::CliError;
use super::cold_start::{ClockArgs, dimensions, headings};
use super::knee::{Point, knee};
use super::options::{OutputArgs, TargetArgs, duration};
use crate::pace::Bounds;
use crate::pace::parse::{Arrivals, Pattern};
use crate::record::Recorded;
use crate::session::running::warm_up;
use crate::session::{Extras, Running, Session, Step};
use crate::work::cold_start::{ColdStart, SERIES, Side};

/// How much does the target bear? Step after step of more load; says where the knee is.
///
/// By concurrency (closed loop, as published boards do it) or by rate (open loop, up to the first that the target does not bear).
/// The knee is where throughput divided by latency is greatest (Kleinrock's power).
#[derive(Debug, Args)]
pub struct SweepArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    clock: ClockArgs,

    /// Workers, step by step (closed loop).
    #[arg(long, value_delimiter = ',', default_value = "1,10,20,50", conflicts_with = "rates", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: Vec<u32>,

    /// Arrivals a second, step by step, Poisson (open loop), until one is not borne: fewer than 95 in a hundred succeed in time.
    #[arg(long, value_delimiter = ',')]
    rates: Vec<f64>,

    /// Turns of each step [default: 200, unless a time is given].
    #[arg(long, short)]
    number: Option<u64>,

    /// Length of each step.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// Turns before measuring.
    #[arg(long, value_name = "TURNS", default_value_t = 5)]
    warm_up: u64,

    /// Most turns under way in an open loop.
    #[arg(long, value_name = "TURNS", default_value_t = 512)]
    max_in_flight: u64,

    /// Pause between steps, so that one does not pay for the one before it.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pause: Duration,

    #[command(flatten)]
    output: OutputArgs,
}

impl SweepArgs {
    /// Threads that send.
    #[must_use]
    pub fn threads(&self) -> u8 {
        self.output.threads
    }

    fn steps(&self) -> Result<Vec<Arrivals>, CliError> {
        let seed = self.output.seed;
        if self.rates.is_empty() {
            let workers = |&n: &u32| Arrivals::Closed(usize::try_from(n).unwrap_or(usize::MAX));
            return Ok(self.concurrency.iter().map(workers).collect());
        }
        let open = |&rate: &f64| {
            // One reader of rates, with its bounds.
            format!("poisson:{rate}")
                .parse::<Arrivals>()
                .map(|_| Arrivals::Open(Pattern::Poisson { rate, seed }))
        };
        Ok(self.rates.iter().map(open).collect::<Result<_, _>>()?)
    }
}

/// Runs the command.
///
/// # Errors
/// When the run cannot begin.
pub async fn run(args: SweepArgs) -> Result<ExitCode, CliError> {
    let steps = args.steps()?;
    let (verify, clock) = (!args.clock.no_verify, Clock::from(args.clock.clock));
    let mut session =
        Session::open(args.output.settings("sweep"), vec![args.target.target()?]).await?;
    let side = Side {
        client: session.client().clone(),
        from: None,
    };
    let work = ColdStart {
        sides: steps.iter().map(|_| side.clone()).collect(),
        clock,
        verify,
        ledgers: steps.iter().map(|_| session.ledger().clone()).collect(),
    };
    let mut extras = Extras {
        warm_up: warm_up(&work, args.warm_up, &session.stop).await,
        ..Extras::default()
    };
    extras.notes.extend(super::verified(clock, verify));
    let state = session.settings.host.cache_state.clone();
    let all = steps.iter().flat_map(|arrivals| {
        let dimensions = dimensions(&args.target.way.template, state.as_deref(), arrivals);
        headings(clock, &format!("@{arrivals}"), &dimensions, arrivals)
    });
    let all = all.collect();
    let bounded = args.duration.is_some();
    let bounds = Bounds {
        number: args.number.or((!bounded).then_some(200)),
        duration: args.duration,
    };
    let headline = usize::from(clock != Clock::Accepted);
    let total = bounds
        .number
        .map(|n| n * u64::try_from(steps.len()).unwrap_or(1));
    let running = Running::start(&mut session, work, all, headline, total)?;
    for (side, arrivals) in steps.iter().enumerate() {
        let step = Step {
            arrivals: arrivals.clone(),
            bounds,
            max_in_flight: args.max_in_flight,
            side,
            round: None,
        };
        running.drive(&step).await?;
        if session.stop.is_tripped() {
            break;
        }
        tokio::time::sleep(args.pause).await;
    }
    let recorded = running.finish();
    extras.notes.extend(told(&recorded, &steps, headline));
    Ok(session.close(recorded, extras).await)
}

/// Where the knee is, in words.
fn told(recorded: &Recorded, steps: &[Arrivals], headline: usize) -> Option<String> {
    let mut points = Vec::new();
    for (side, arrivals) in steps.iter().enumerate() {
        let collector = recorded.collectors.get(SERIES * side + headline)?;
        let series = collector.series(false);
        let Some(median) = series.quantiles.first().filter(|_| series.counts.ok > 0) else {
            continue;
        };
        points.push(Point {
            name: arrivals.to_string(),
            offered: series.arrival.offered_per_s,
            achieved: series.arrival.achieved_per_s,
            latency_ns: median.value,
            bad: series.counts.failed() + series.counts.dropped,
            turns: series.counts.planned,
        });
    }
    Some(knee(&points))
}
