//! `cargo xtask up`: a daemon in the foreground.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use super::{HostArgs, setup};
use crate::cache::Ctx;
use crate::daemon::Daemon;
use crate::signals;

/// How often signals are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Run the daemon until Ctrl-C, and print the lines that point E2B's SDKs at it.
///
/// Sets up first if needed. Runs on this machine where the doctor passes, else on the lab host;
/// the API is on 127.0.0.1 either way. At the end all sandboxes are killed and nothing is left.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    host: HostArgs,

    /// Port of the API, on 127.0.0.1.
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    port: u16,
}

/// Runs `cargo xtask up`.
///
/// # Errors
/// When set-up fails or the daemon ends by itself.
pub fn run(ctx: &Ctx, args: &Args) -> Result<ExitCode> {
    let place = args.host.place(ctx)?;
    let parts = setup::prepare(ctx, place)?;
    signals::catch()?;
    let host = args.host.start(ctx, place)?;
    let mut daemon = Daemon::start(ctx, &parts, host, Some(args.port))?;
    println!();
    for (name, value) in daemon.endpoint().env() {
        println!("export {name}={value}");
    }
    println!();
    ctx.progress
        .line(&format!("Log: {}. Ctrl-C ends it.", daemon.log().display()));
    while signals::count() == 0 {
        if let Err(error) = daemon.supervise(TICK)
            && signals::count() == 0
        {
            return Err(error);
        }
    }
    let task = ctx.progress.task("shutdown");
    drop(daemon.stop()?);
    task.done("nothing left behind");
    Ok(ExitCode::SUCCESS)
}
