//! `loadgen stub`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::CliError;
use super::options::duration;
use crate::stub::{Delay, Script, Stall, Stub};

/// Serve an E2B API in memory with times that are known, to check this or another tool with. Runs no code.
#[derive(Debug, Args)]
pub struct StubArgs {
    /// Address to listen on; port 0 chooses one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Delay of creates: none, fixed:TIME, uniform:LOW:HIGH, exponential:MEAN, lognormal:MEDIAN:SIGMA, steps:TIME@SHARE,…
    #[arg(long, default_value = "none")]
    create: Delay,

    /// Delay of commands, health and files.
    #[arg(long, default_value = "none")]
    agent: Delay,

    /// Delay of code.
    #[arg(long, default_value = "none")]
    code: Delay,

    /// Delay of kills, pauses, snapshots and the like.
    #[arg(long, default_value = "none")]
    life: Delay,

    /// The whole server stands still for LONG once in EVERY, as in 2s/60s; in the middle of it.
    #[arg(long, value_name = "LONG/EVERY", value_parser = stall)]
    stall: Option<Stall>,

    /// Creates worked on at once; the others wait.
    #[arg(long)]
    capacity: Option<usize>,

    /// Share of creates that is refused with 503.
    #[arg(long, default_value_t = 0.0)]
    refused: f64,

    /// Share of sandboxes that never answer.
    #[arg(long, default_value_t = 0.0)]
    silent: f64,

    /// Most sandboxes at once.
    #[arg(long)]
    most: Option<usize>,

    /// The only key that is good [default: any].
    #[arg(long)]
    key: Option<String>,

    /// Ends after this long, whatever is under way.
    #[arg(long, value_parser = duration)]
    dies_after: Option<Duration>,

    /// Seed of everything drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn stall(text: &str) -> Result<Stall, String> {
    let (long, every) = text
        .split_once('/')
        .ok_or("give it as LONG/EVERY, as in 2s/60s")?;
    let (long, every) = (duration(long)?, duration(every)?);
    if long >= every {
        return Err("a stall must be shorter than the time between two".to_owned());
    }
    Ok(Stall {
        every,
        at: (every - long) / 2,
        long,
    })
}

/// Runs the command until it is killed, or dies as told.
///
/// # Errors
/// When the address cannot be listened on.
pub fn run(args: StubArgs) -> Result<ExitCode, CliError> {
    let script = Script {
        create: args.create,
        agent: args.agent,
        code: args.code,
        life: args.life,
        stall: args.stall,
        capacity: args.capacity,
        refused: args.refused,
        silent: args.silent,
        most: args.most,
        key: args.key,
        dies_after: args.dies_after,
        seed: args.seed,
    };
    let stub = Stub::start(script, args.listen)?;
    println!(
        "export E2B_API_URL={0}\nexport E2B_SANDBOX_URL={0}\nexport E2B_API_KEY=any",
        stub.url()
    );
    stub.wait();
    Ok(ExitCode::SUCCESS)
}
