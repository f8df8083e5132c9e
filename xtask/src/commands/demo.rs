//! `cargo xtask demo`: both SDKs against a daemon brought up for them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{HostArgs, setup};
use crate::cache::Ctx;
use crate::daemon::Daemon;
use crate::exec::{CommandLine, Output};
use crate::sdks::Sdks;
use crate::{script, signals};

/// The longest that one script may take. A lab is slow.
const LIMIT: Duration = Duration::from_secs(600);

/// Bring a daemon up, drive it with E2B's unmodified Python and JavaScript SDKs, take it down.
///
/// Creates sandboxes, runs commands and Python in them, draws a chart and saves it here. Each
/// step is shown with its time.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    host: HostArgs,

    /// Where to save the chart [default: target/demo/chart.png in the source tree].
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

/// Runs `cargo xtask demo`.
///
/// # Errors
/// When set-up, the daemon or a step fails.
pub fn run(ctx: &Ctx, args: &Args) -> Result<ExitCode> {
    let place = args.host.place(ctx)?;
    let parts = setup::prepare(ctx, place)?;
    let sdks = Sdks::get(ctx)?;
    signals::catch()?;
    let host = args.host.start(ctx, place)?;
    let mut daemon = Daemon::start(ctx, &parts, host, None)?;
    let chart = chart(ctx, args.chart.as_ref())?;
    for command in scripts(ctx, &sdks, &chart) {
        let command = script::pointed(command, &daemon, &sdks)?;
        let exit = script::run(&mut daemon, &command, Output::inherit(), LIMIT)?;
        if !exit.success() {
            bail!(
                "the demo failed ({exit}); the daemon's log is {}",
                daemon.log().display()
            );
        }
    }
    drop(daemon.stop()?);
    Ok(ExitCode::SUCCESS)
}

/// Where the chart goes; its folder is made.
///
/// # Errors
/// When it can't be made.
pub fn chart(ctx: &Ctx, wanted: Option<&PathBuf>) -> Result<PathBuf> {
    let default = || ctx.workspace.join("target/demo/chart.png");
    let chart = std::path::absolute(wanted.cloned().unwrap_or_else(default))?;
    let folder = chart.parent().context("the chart needs a folder")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("could not make {}", folder.display()))?;
    Ok(chart)
}

/// The demo's scripts, in order.
#[must_use]
pub fn scripts(ctx: &Ctx, sdks: &Sdks, chart: &std::path::Path) -> [CommandLine; 2] {
    let demo = ctx.workspace.join("tests/demo");
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    [
        CommandLine::new([text(&sdks.python), text(&demo.join("demo.py")), text(chart)]).cwd(&demo),
        CommandLine::new([text(&sdks.node), text(&demo.join("demo.mjs"))]).cwd(&demo),
    ]
}
