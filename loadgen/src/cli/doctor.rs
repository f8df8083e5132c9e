//! `loadgen doctor`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::{CliError, exit};
use crate::selftest::{self, Omission};
use crate::session::own::steal;

/// Sleeps that are timed.
const SLEEPS: u32 = 300;
/// How late a sleep may end: beyond, the send delay of a run will not be small against its latencies.
const LATE: Duration = Duration::from_millis(2);
/// Share of processor time that the hypervisor may take.
const STEAL: f64 = 0.02;

/// Is this machine good enough to measure from?
///
/// Looks at clock, timers, stolen processor time and limits, and measures a stub whose stalls are known: the open loop must see
/// them, and the closed loop must not.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Turns that are to be under way at most: each needs two descriptors.
    #[arg(long, value_name = "TURNS", default_value_t = 512)]
    max_in_flight: u64,

    /// How long the self-test takes.
    #[arg(long, value_name = "TIME", default_value = "6s", value_parser = super::options::duration)]
    self_test: Duration,
}

/// One finding.
struct Finding {
    what: &'static str,
    good: bool,
    told: String,
}

/// Runs the command. Exit code 1 when something is not good enough.
///
/// # Errors
/// When the self-test's stub cannot be started.
pub async fn run(args: DoctorArgs) -> Result<ExitCode, CliError> {
    let stolen = steal_share();
    let findings = [
        clock(),
        timers(),
        stolen,
        descriptors(args.max_in_flight),
        omission(&selftest::omission(SocketAddr::from(([127, 0, 0, 1], 0)), args.self_test).await?),
    ];
    for finding in &findings {
        let mark = if finding.good { "good" } else { "BAD " };
        println!("{mark}  {:<22} {}", finding.what, finding.told);
    }
    let good = findings.iter().all(|finding| finding.good);
    Ok(ExitCode::from(if good { exit::GOOD } else { exit::BAD }))
}

fn clock() -> Finding {
    let source =
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
    let mut least = Duration::MAX;
    for _ in 0..10_000 {
        let first = Instant::now();
        let mut next = Instant::now();
        while next == first {
            next = Instant::now();
        }
        least = least.min(next - first);
    }
    Finding {
        what: "clock",
        good: least < Duration::from_micros(10),
        told: format!("source {source}, smallest step {least:?}"),
    }
}

fn timers() -> Finding {
    let mut late: Vec<Duration> = (0..SLEEPS)
        .map(|_| {
            let asked = Duration::from_millis(1);
            let began = Instant::now();
            std::thread::sleep(asked);
            began.elapsed().saturating_sub(asked)
        })
        .collect();
    late.sort_unstable();
    let at = |share: usize| {
        late.get(late.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    Finding {
        what: "timers",
        good: at(99) < LATE,
        told: format!(
            "a sleep of 1 ms ends late by {:?} at P50, {:?} at P99 (bound {LATE:?})",
            at(50),
            at(99)
        ),
    }
}

fn steal_share() -> Finding {
    let read = || steal(&std::fs::read_to_string("/proc/stat").unwrap_or_default());
    let (before, began) = (read(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let taken = read()
        .zip(before)
        .map(|(now, then)| now.saturating_sub(then));
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let all = began.elapsed() * u32::try_from(cpus).unwrap_or(1);
    let share = taken.map(|taken| taken.as_secs_f64() / all.as_secs_f64());
    Finding {
        what: "stolen processor time",
        good: share.is_none_or(|share| share <= STEAL),
        told: share.map_or_else(
            || "not told here".to_owned(),
            |share| {
                format!(
                    "{:.1} % in a second (bound {:.0} %)",
                    share * 100.0,
                    STEAL * 100.0
                )
            },
        ),
    }
}

fn descriptors(max_in_flight: u64) -> Finding {
    let needed = max_in_flight * 2 + 64;
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let (good, told) = match limit {
        Ok((soft, _)) => (
            soft >= needed,
            format!("{soft} may be open, {needed} are needed for {max_in_flight} turns under way"),
        ),
        Err(error) => (false, format!("the limit is not told: {error}")),
    };
    Finding {
        what: "file descriptors",
        good,
        told,
    }
}

fn omission(found: &Omission) -> Finding {
    Finding {
        what: "coordinated omission",
        good: found.is_good(),
        told: format!(
            "server stood still for {:?} in {:?}: true P99 {:?}, open loop {:?}, closed loop {:?}",
            found.stall, found.every, found.truth, found.open, found.closed
        ),
    }
}
