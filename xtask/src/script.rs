//! Programs that use a daemon: they run here, with the variables that point at it, while the
//! daemon is looked after.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::exec::local::LocalCommand;
use crate::exec::{CommandLine, Exit, Output};
use crate::sdks::Sdks;
use crate::signals;

/// How often the daemon and signals are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Adds to `command` what it needs to find the daemon, the SDKs, and the daemon's host.
///
/// # Errors
/// When a lab has no address.
pub fn pointed(command: CommandLine, daemon: &Daemon, sdks: &Sdks) -> Result<CommandLine> {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut command = command
        .env("SANDBOXD_NODE_DIR", text(&sdks.node_dir))
        .env("SANDBOXD_HOST", daemon.host().name())
        .env(
            "SANDBOXD_HOST_EXEC",
            serde_json::to_string(&daemon.host().prefix()?)?,
        )
        .env("SANDBOXD_STATE_DIR", text(&daemon.folders().state))
        .env("SANDBOXD_RUN_DIR", text(&daemon.folders().run))
        // A test must not leave its compiled self in the source tree.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1");
    for (name, value) in daemon.endpoint().env() {
        command = command.env(name, value);
    }
    Ok(command)
}

/// Runs `command` here to its end, looking after the daemon meanwhile.
///
/// # Errors
/// When it takes longer than `limit`, is interrupted, or the daemon is lost.
pub fn run(
    daemon: &mut Daemon,
    command: &CommandLine,
    output: Output,
    limit: Duration,
) -> Result<Exit> {
    let mut script = LocalCommand::spawn(command, output, Signal::KILL)?;
    drop(script.take_stdin());
    let deadline = Instant::now() + limit;
    loop {
        if let Some(exit) = script.wait_for(TICK)? {
            return Ok(exit);
        }
        signals::check()?;
        daemon.supervise(Duration::ZERO)?;
        if Instant::now() > deadline {
            bail!(
                "`{}` took longer than {} s",
                command.argv.join(" "),
                limit.as_secs()
            );
        }
    }
}
