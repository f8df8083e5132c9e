//! `loadgen compare`.

use std::process::ExitCode;

use clap::Args;
use reports::model::load::{Clock, Verdict};

use super::CliError;
use super::cold_start::{ClockArgs, dimensions, headings, word};
use super::options::{OutputArgs, Way};
use crate::compare::{Level, Rounds, judge};
use crate::pace::Bounds;
use crate::pace::parse::Arrivals;
use crate::record::Recorded;
use crate::session::running::warm_up;
use crate::session::{Extras, Running, Session, Step};
use crate::work::cold_start::{ColdStart, SERIES, Side};

/// Is B slower than A? Both are measured in one run, taking turns (A B, B A, …), one sandbox at a time.
///
/// The sides of a round share the machine's mood, so rounds are what is resampled: 9,999 permutations decide whether a difference
/// is real, --floor whether it matters. Exit code 1 when B is really slower.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Address of A's control API: the baseline.
    a: String,

    /// Address of B's control API.
    b: String,

    /// API key of both.
    #[arg(long, value_name = "KEY", env = "E2B_API_KEY", hide_env_values = true)]
    api_key: String,

    /// API key of B, where it is another one.
    #[arg(long, value_name = "KEY")]
    b_api_key: Option<String>,

    /// Address of B's sandboxes, where they are not behind its API; --sandbox-url is A's.
    #[arg(long, value_name = "URL")]
    b_sandbox_url: Option<String>,

    #[command(flatten)]
    way: Way,

    #[command(flatten)]
    clock: ClockArgs,

    /// Rounds; fewer than 8 decide nothing.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,

    /// Sandboxes of each side in a round.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    per_round: u64,

    /// Share of false alarms that is taken.
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    alpha: f64,

    /// Least difference that matters, as a share.
    #[arg(long, default_value_t = 0.05, value_parser = share)]
    floor: f64,

    /// Sandboxes of each side before measuring.
    #[arg(long, value_name = "TURNS", default_value_t = 5)]
    warm_up: u64,

    #[command(flatten)]
    output: OutputArgs,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "a share goes from 0 to 1".to_owned())
}

impl CompareArgs {
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
pub async fn run(args: CompareArgs) -> Result<ExitCode, CliError> {
    let b_key = args.b_api_key.as_deref().unwrap_or(&args.api_key);
    // What the environment says of sandboxes is of one server; two are reached at their own addresses unless both are given.
    let a_sandboxes = args
        .b_sandbox_url
        .as_ref()
        .and(args.way.sandbox_url.as_deref());
    let a = args
        .way
        .target(&args.a, &args.api_key, Some(a_sandboxes.unwrap_or(&args.a)))?;
    let b_sandboxes = args.b_sandbox_url.as_deref().unwrap_or(&args.b);
    let b = args.way.target(&args.b, b_key, Some(b_sandboxes))?;
    let (verify, clock) = (!args.clock.no_verify, Clock::from(args.clock.clock));
    let mut session = Session::open(args.output.settings("compare"), vec![a, b]).await?;
    let side = |client: &crate::e2b::Client| Side {
        client: client.clone(),
        from: None,
    };
    let work = ColdStart {
        sides: session.clients.iter().map(side).collect(),
        clock,
        verify,
        ledgers: session.ledgers.clone(),
    };
    let mut warm = 0;
    for only in 0..2 {
        let one = ColdStart {
            sides: work.sides.get(only).cloned().into_iter().collect(),
            ledgers: work.ledgers.get(only).cloned().into_iter().collect(),
            ..work.clone()
        };
        warm = warm_up(&one, args.warm_up, &session.stop).await;
    }
    let mut extras = Extras {
        warm_up: warm,
        ..Extras::default()
    };
    extras.notes.extend(super::verified(clock, verify));
    let arrivals = Arrivals::Closed(1);
    let state = session.settings.host.cache_state.clone();
    let mut all = Vec::new();
    for name in ["A", "B"] {
        let mut dimensions = dimensions(&args.way.template, state.as_deref(), &arrivals);
        dimensions.insert("side".to_owned(), name.to_owned());
        all.extend(headings(clock, &format!("@{name}"), &dimensions, &arrivals));
    }
    for heading in &mut all {
        heading.keep_rounds = true;
    }
    let headline = usize::from(clock != Clock::Accepted);
    let total = u64::from(args.rounds) * args.per_round * 2;
    let running = Running::start(&mut session, work, all, headline, Some(total))?;
    for round in 0..args.rounds {
        // A B, then B A: what drifts hits both alike.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            let step = Step {
                arrivals: arrivals.clone(),
                bounds: Bounds {
                    number: Some(args.per_round),
                    duration: None,
                },
                max_in_flight: 1,
                side,
                round: Some(round),
            };
            running.drive(&step).await?;
        }
        if session.stop.is_tripped() {
            break;
        }
    }
    let recorded = running.finish();
    let level = Level {
        alpha: args.alpha,
        floor: args.floor,
        ..Level::usual(args.output.seed)
    };
    extras
        .comparisons
        .extend(compared(&recorded, clock, headline, level));
    extras.bad = extras
        .comparisons
        .iter()
        .any(|found| found.finding.verdict == Verdict::Worse);
    Ok(session.close(recorded, extras).await)
}

fn compared(
    recorded: &Recorded,
    clock: Clock,
    headline: usize,
    level: Level,
) -> Option<reports::model::load::Comparison> {
    let a = recorded.collectors.get(headline)?;
    let b = recorded.collectors.get(SERIES + headline)?;
    let mut rounds = Rounds::new();
    for (round, values) in &a.rounds {
        rounds.entry(*round).or_default().0.extend(values);
    }
    for (round, values) in &b.rounds {
        rounds.entry(*round).or_default().1.extend(values);
    }
    let title = format!("{}, one at a time, B against A", word(clock));
    judge(&title, (&a.heading.name, &b.heading.name), &rounds, level)
}
