//! `loadgen cold-start`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use reports::model::load::{Clock, Unit};

use super::CliError;
use super::options::{LoadArgs, OutputArgs, TargetArgs};
use super::stretch::{self, Series};
use crate::pace::parse::{Arrivals, Pattern};
use crate::record::collector::Heading;
use crate::session::Session;
use crate::work::cold_start::ColdStart;

/// How long from nothing to a sandbox that is good for something?
///
/// All clocks start when the create was due, not when it was sent. A sandbox that does not answer a command is a failure.
#[derive(Debug, Args)]
pub struct ColdStartArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    clock: ClockArgs,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    output: OutputArgs,
}

impl ColdStartArgs {
    /// Threads that send.
    #[must_use]
    pub fn threads(&self) -> u8 {
        self.output.threads
    }
}

/// Where the clock stops.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Load")]
pub struct ClockArgs {
    /// Where the clock stops.
    #[arg(long, value_enum, default_value = "first-exec")]
    pub clock: ClockName,

    /// Do not run a command in each sandbox where the clock (accepted, ready) does not need one.
    #[arg(long)]
    pub no_verify: bool,
}

/// Clocks on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClockName {
    /// The create's answer has been read in full: what others publish as cold start.
    #[value(alias = "accepted")]
    Accepted,
    /// The agent has answered GET /health through the data plane.
    Ready,
    /// The exit of /bin/true has been received: time to interactive.
    #[value(alias = "first_exec")]
    FirstExec,
    /// run_code("1+1") has given its result.
    #[value(alias = "first_code")]
    FirstCode,
}

impl From<ClockName> for Clock {
    fn from(name: ClockName) -> Self {
        match name {
            ClockName::Accepted => Self::Accepted,
            ClockName::Ready => Self::Ready,
            ClockName::FirstExec => Self::FirstExec,
            ClockName::FirstCode => Self::FirstCode,
        }
    }
}

/// A clock's name in reports.
#[must_use]
pub fn word(clock: Clock) -> &'static str {
    match clock {
        Clock::Accepted => "accepted",
        Clock::Ready => "ready",
        Clock::FirstExec => "first_exec",
        Clock::FirstCode => "first_code",
    }
}

/// Headings of one side: `accepted`, the clock, `kill`. `suffix` tells sides apart.
#[must_use]
pub fn headings(
    clock: Clock,
    suffix: &str,
    dimensions: &BTreeMap<String, String>,
    arrivals: &Arrivals,
) -> Vec<Heading> {
    let heading = |name: &str, metric: &str, clock| Heading {
        name: format!("{name}{suffix}"),
        metric: metric.to_owned(),
        clock,
        unit: Unit::Nanoseconds,
        dimensions: dimensions.clone(),
        model: model(arrivals),
        closed_loop: matches!(arrivals, Arrivals::Closed(_)),
        offered_per_s: match arrivals {
            Arrivals::Open(Pattern::Constant { rate } | Pattern::Poisson { rate, .. }) => {
                Some(*rate)
            }
            Arrivals::Open(Pattern::Staggered { gap }) => Some(1.0 / gap.as_secs_f64()),
            _ => None,
        },
        keep_rounds: false,
    };
    vec![
        heading("accepted", "cold_start", Some(Clock::Accepted)),
        heading(word(clock), "cold_start", Some(clock)),
        heading("kill", "kill", None),
    ]
}

/// The model's name alone.
fn model(arrivals: &Arrivals) -> String {
    let text = arrivals.to_string();
    let end = text.find([':', ' ']).unwrap_or(text.len());
    text.get(..end).unwrap_or("").to_owned()
}

/// Conditions that every series has.
#[must_use]
pub fn dimensions(
    template: &str,
    state: Option<&str>,
    arrivals: &Arrivals,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("template".to_owned(), template.to_owned())]);
    if let Some(state) = state {
        all.insert("state".to_owned(), state.to_owned());
    }
    match arrivals {
        Arrivals::Closed(workers) => all.insert("concurrency".to_owned(), workers.to_string()),
        Arrivals::Open(_) => all.insert("arrivals".to_owned(), arrivals.to_string()),
    };
    all
}

/// Runs the command.
///
/// # Errors
/// When the run cannot begin.
pub async fn run(args: ColdStartArgs) -> Result<ExitCode, CliError> {
    let arrivals = args.load.arrivals(args.output.seed);
    let settings = args.output.settings("cold-start");
    measured(settings, &args.target, args.clock, &args.load, arrivals).await
}

/// Cold starts on any arrivals.
///
/// # Errors
/// When the run cannot begin.
pub async fn measured(
    settings: crate::session::Settings,
    target: &TargetArgs,
    clock: ClockArgs,
    load: &LoadArgs,
    arrivals: Arrivals,
) -> Result<ExitCode, CliError> {
    let (verify, clock) = (!clock.no_verify, Clock::from(clock.clock));
    let session = Session::open(settings, vec![target.target()?]).await?;
    let work = ColdStart::one(
        session.client().clone(),
        session.ledger().clone(),
        clock,
        verify,
    );
    let state = session.settings.host.cache_state.clone();
    let dimensions = dimensions(&target.way.template, state.as_deref(), &arrivals);
    let series = Series {
        headings: headings(clock, "", &dimensions, &arrivals),
        headline: usize::from(clock != Clock::Accepted),
        note: super::verified(clock, verify),
    };
    stretch::drive(session, work, series, load, arrivals).await
}
