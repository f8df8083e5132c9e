//! Options that commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use reports::model::Virtualization;

use crate::e2b::Target;
use crate::e2b::target::{Limits, TargetError};
use crate::pace::Bounds;
use crate::pace::parse::{Arrivals, Pattern, SEED, time};
use crate::probe::reach;
use crate::session::Settings;
use crate::session::compose::{Host, without_keys};

/// Turns when neither a number nor a time is given: enough for a P95.
const NUMBER: u64 = 200;

/// A time as people write it: `200ms`, `1.5s`, `10m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    time(text).map_err(|error| error.to_string())
}

/// Whom to measure.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target")]
pub struct TargetArgs {
    /// Address of the control API.
    #[arg(long, value_name = "URL", env = "E2B_API_URL")]
    pub url: String,

    /// API key.
    #[arg(long, value_name = "KEY", env = "E2B_API_KEY", hide_env_values = true)]
    pub api_key: String,

    /// How sandboxes are reached, and which.
    #[command(flatten)]
    pub way: Way,
}

/// How sandboxes are reached, and which.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target")]
pub struct Way {
    /// One address for all sandboxes; E2b-Sandbox-Id headers say which is meant [default: the API's own].
    #[arg(long, value_name = "URL", env = "E2B_SANDBOX_URL")]
    pub sandbox_url: Option<String>,

    /// Domain of the sandboxes: PORT-ID.DOMAIN is asked. --sandbox-url goes before it.
    #[arg(long, value_name = "DOMAIN", env = "E2B_DOMAIN")]
    pub domain: Option<String>,

    /// Template of the sandboxes.
    #[arg(long, default_value = "base")]
    pub template: String,

    /// The longest that a create, kill, pause, resume, snapshot or fork may take.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub life_timeout: Duration,

    /// The longest that a command, a file or a piece of code may take.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub call_timeout: Duration,

    /// Life that a sandbox is given, should nobody be left to kill it [default: 300; `density` 3600].
    #[arg(long, value_name = "SECONDS")]
    pub sandbox_seconds: Option<u32>,
}

/// Life of a sandbox that is used once, in seconds.
const BRIEF: u32 = 300;

impl TargetArgs {
    /// The target.
    ///
    /// # Errors
    /// When an address or the key is of no use.
    pub fn target(&self) -> Result<Target, TargetError> {
        self.way
            .target(&self.url, &self.api_key, self.way.sandbox_url.as_deref())
    }
}

impl Way {
    /// A target at another address.
    ///
    /// # Errors
    /// When an address or the key is of no use.
    pub fn target(
        &self,
        url: &str,
        key: &str,
        sandbox_url: Option<&str>,
    ) -> Result<Target, TargetError> {
        let limits = Limits {
            life: self.life_timeout,
            call: self.call_timeout,
            sandbox_seconds: self.sandbox_seconds.unwrap_or(BRIEF),
        };
        Target::new(
            url,
            key,
            sandbox_url,
            self.domain.as_deref(),
            &self.template,
            limits,
        )
    }
}

/// Where results go, and what stands in them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Results")]
pub struct OutputArgs {
    /// Folder of the results [default: loadgen-COMMAND-TIME].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// What the target is called in reports: a product, a build.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// How guests run on the server's machine.
    #[arg(long, value_enum, default_value = "unknown")]
    pub virtualization: Mode,

    /// The server runs on this machine, which can be looked at for what the report says of its host.
    #[arg(long)]
    pub on_host: bool,

    /// Address of a `loadgen probe --listen` on the server's machine.
    #[arg(long, value_name = "ADDR", conflicts_with = "on_host")]
    remote_probe: Option<String>,

    /// A command that runs `loadgen probe` on the server's machine, as in "ssh host loadgen probe"; split at blanks.
    #[arg(long, value_name = "COMMAND", env = "LOADGEN_PROBE_COMMAND", conflicts_with_all = ["on_host", "remote_probe"])]
    probe_command: Option<String>,

    /// State of the server when measuring begins, part of every figure's name: cold (no process waits, page cache dropped),
    /// warm (pool full, template cached), boot (no snapshot), or your own word.
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,

    /// Show no progress.
    #[arg(long, short)]
    pub quiet: bool,

    /// How long requests under way may go on after Ctrl-C.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub grace: Duration,

    /// Seed of random arrivals, orders and resampling.
    #[arg(long, default_value_t = SEED)]
    pub seed: u64,

    /// Threads that send. One is good for some thousand sandboxes a second.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: u8,
}

/// How guests run, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// By the processor.
    Hardware,
    /// On an emulated lab host: good for ratios only.
    Lab,
    /// A stub: no guests.
    None,
    /// Nobody said.
    Unknown,
}

impl OutputArgs {
    /// The way to the server's machine; `None` where there is none.
    #[must_use]
    pub fn way(&self) -> Option<reach::Way> {
        match (&self.remote_probe, &self.probe_command) {
            (Some(address), _) => Some(reach::Way::Remote(address.clone())),
            (None, Some(command)) => Some(reach::Way::Command(
                command.split_whitespace().map(str::to_owned).collect(),
            )),
            (None, None) => self.on_host.then_some(reach::Way::Here),
        }
    }

    /// As a session takes it.
    #[must_use]
    pub fn settings(&self, scenario: &'static str) -> Settings {
        let virtualization = match self.virtualization {
            Mode::Hardware => Virtualization::Hardware,
            Mode::Lab => Virtualization::Lab,
            Mode::None => Virtualization::None,
            Mode::Unknown => Virtualization::Unknown,
        };
        let folder = self.out.clone().unwrap_or_else(|| {
            let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
            PathBuf::from(format!("loadgen-{scenario}-{stamp}"))
        });
        Settings {
            scenario,
            folder,
            name: self.name.clone(),
            host: Host {
                way: self.way(),
                virtualization,
                cache_state: self.state.clone(),
                probed: None,
            },
            seed: self.seed,
            grace: self.grace,
            quiet: self.quiet,
            // Where the program lies is this machine's own affair.
            command: without_keys(
                std::iter::once("loadgen".to_owned()).chain(std::env::args().skip(1)),
            ),
        }
    }
}

/// How far a run goes.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Load")]
pub struct BoundArgs {
    /// Turns: 200 for a P95, 1,000 for a P99 [default: 200, unless a time is given or the arrivals end by themselves].
    #[arg(long, short)]
    pub number: Option<u64>,

    /// Arrivals for this long.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Turns before measuring, one after the other; they are in no figure.
    #[arg(long, value_name = "TURNS", default_value_t = 5)]
    pub warm_up: u64,
}

/// When to send.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// When sandboxes are asked for: constant:RATE, poisson:RATE, ramp:FROM:TO:TIME, sine:MEAN:SWING:PERIOD, burst:SIZE[:EVERY],
    /// staggered:GAP (open loop), or closed:WORKERS.
    #[arg(long, short, default_value = "constant:1")]
    pub arrivals: Arrivals,

    /// How far the run goes.
    #[command(flatten)]
    pub bounds: BoundArgs,

    /// Most turns under way; an arrival that finds as many is dropped, and counted.
    #[arg(long, value_name = "TURNS", default_value_t = 512)]
    pub max_in_flight: u64,
}

impl LoadArgs {
    /// The arrivals, with the run's seed.
    #[must_use]
    pub fn arrivals(&self, seed: u64) -> Arrivals {
        match &self.arrivals {
            Arrivals::Open(Pattern::Poisson { rate, .. }) => {
                Arrivals::Open(Pattern::Poisson { rate: *rate, seed })
            }
            other => other.clone(),
        }
    }

    /// How far a run of these arrivals goes.
    #[must_use]
    pub fn bounds_of(&self, arrivals: &Arrivals) -> Bounds {
        let ends = matches!(arrivals, Arrivals::Open(pattern) if pattern.ends());
        self.bounds.bounds(ends)
    }
}

impl BoundArgs {
    /// How far a run goes, whose arrivals end by themselves or not.
    #[must_use]
    pub fn bounds(&self, ends: bool) -> Bounds {
        let bounded = ends || self.duration.is_some();
        Bounds {
            number: self.number.or((!bounded).then_some(NUMBER)),
            duration: self.duration,
        }
    }
}
