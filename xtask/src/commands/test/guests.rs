//! The VMM's tests with real guests, without a daemon: `sandboxd/vmm/tests`.
//!
//! ```text
//! cargo builds them ─▶ each runs on the host, one test at a time ─▶ its `test result:` line is counted
//! ```

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::tally::{Count, Tally};
use crate::cache::Ctx;
use crate::cargo;
use crate::exec::{CommandLine, Output};
use crate::host::Host;
use crate::parts::Parts;
use crate::signals;

/// Test programs of the package `vmm` that boot guests.
const PROGRAMS: [&str; 2] = ["guest", "load"];
/// How long one of them may take beside its rounds.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long one round of snapshots under load may take.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// How often signals are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Compiles the test programs.
///
/// # Errors
/// When they do not compile.
pub fn build(ctx: &Ctx) -> Result<Vec<PathBuf>> {
    let task = ctx.progress.task("tests with guests");
    let log = ctx.cache.dir("logs")?.join("guest-tests.log");
    let target = cargo::target(ctx, "programs")?;
    let mut command = cargo::cargo(ctx);
    // Both packages, as for the programs: else the dependencies would have other features.
    command.args(["build", "--release", "--locked", "--package", "sandboxd"]);
    command.args(["--package", "vmm", "--message-format", "json"]);
    for program in PROGRAMS {
        command.args(["--test", program]);
    }
    command
        .arg("--target-dir")
        .arg(&target)
        .stdin(Stdio::null());
    let output = command.output().context("could not start cargo")?;
    std::fs::write(&log, &output.stderr)?;
    ensure!(
        output.status.success(),
        "the tests with guests do not compile:\n{}",
        crate::progress::tail(&log)
    );
    let programs = executables(&String::from_utf8_lossy(&output.stdout));
    ensure!(programs.len() == PROGRAMS.len(), "cargo built {programs:?}");
    task.done("");
    Ok(programs)
}

/// The test programs among cargo's messages, in the order of [`PROGRAMS`].
fn executables(messages: &str) -> Vec<PathBuf> {
    let messages: Vec<serde_json::Value> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let program = |name: &&str| {
        let mut fitting = messages.iter().filter(|message| {
            message["reason"] == "compiler-artifact"
                && message["target"]["name"] == **name
                && message["profile"]["test"] == true
        });
        Some(PathBuf::from(fitting.next()?["executable"].as_str()?))
    };
    PROGRAMS.iter().filter_map(program).collect()
}

/// Runs `programs` on `host`; snapshots under load `rounds` times.
///
/// # Errors
/// When one can't be run; a failing test is counted.
pub fn run(
    ctx: &Ctx,
    host: &Host,
    parts: &Parts,
    programs: &[PathBuf],
    rounds: u32,
    tally: &mut Tally,
) -> Result<()> {
    for (program, name) in programs.iter().zip(PROGRAMS) {
        ctx.progress.line(&format!("\n── VMM with guests: {name}"));
        let started = Instant::now();
        let (output, caught) = tee();
        let running = host.spawn(command(parts, program, rounds), output)?;
        let limit = LIMIT + ROUND_LIMIT * rounds;
        let exit = loop {
            if let Some(exit) = running.wait_for(TICK)? {
                break exit;
            }
            signals::check()?;
            if started.elapsed() > limit {
                bail!("the tests in {name} took longer than {} s", limit.as_secs());
            }
        };
        let bytes = caught.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = Count::of_cargo(&String::from_utf8_lossy(&bytes));
        // A program that ran nothing, or died, has failed as a whole.
        if count.failed == 0 && (!exit.success() || count.passed == 0) {
            ctx.progress.line(&format!("{name}: {exit}"));
            count.failed = 1;
        }
        tally.add(&title(name, rounds), count, started.elapsed());
    }
    Ok(())
}

fn title(name: &str, rounds: u32) -> String {
    match name {
        "load" => format!("VMM: {rounds} snapshots under load"),
        _ => "VMM with guests".to_owned(),
    }
}

fn command(parts: &Parts, program: &std::path::Path, rounds: u32) -> CommandLine {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let words = [
        text(program),
        "--test-threads=1".into(),
        "--nocapture".into(),
    ];
    CommandLine::new(words)
        .cwd("/")
        .env("SANDBOXD_REQUIRE_GUEST", "1")
        .env("SANDBOXD_KERNEL", text(&parts.kernel))
        .env("SANDBOXD_AGENT_DISK", text(&parts.agent_disk))
        .env("SANDBOXD_OVERLAY_BASE", text(&parts.overlay))
        .env("SANDBOXD_TEMPLATES", text(&parts.templates))
        .env("SANDBOXD_LOAD_ROUNDS", rounds.to_string())
}

/// Output that is shown and caught.
fn tee() -> (Output, Arc<Mutex<Vec<u8>>>) {
    let caught = Arc::new(Mutex::new(Vec::new()));
    let Output { stdout, stderr } = Output::inherit();
    let tee = Tee {
        shown: stdout,
        caught: Arc::clone(&caught),
    };
    let stdout = Box::new(tee);
    (Output { stdout, stderr }, caught)
}

struct Tee<W> {
    shown: W,
    caught: Arc<Mutex<Vec<u8>>>,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let shown = self.shown.write(bytes)?;
        let mut caught = self.caught.lock().unwrap_or_else(PoisonError::into_inner);
        caught.extend_from_slice(&bytes[..shown]);
        Ok(shown)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shown.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_programs_are_found_among_cargo_s_messages() {
        let message = |name: &str, test: bool, path: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":"{path}"}}"#
            )
        };
        let messages = [
            message("load", true, "/t/load-1"),
            message("guest", false, "/t/other"),
            "not json".into(),
            message("guest", true, "/t/guest-1"),
            r#"{"reason":"build-finished","success":true}"#.into(),
        ];
        let found = executables(&messages.join("\n"));
        assert_eq!(found, [PathBuf::from("/t/guest-1"), "/t/load-1".into()]);
        assert!(executables(&messages[3]).len() < PROGRAMS.len());
    }

    #[test]
    fn output_is_shown_and_caught() {
        let caught = Arc::default();
        let mut shown = Vec::new();
        let mut tee = Tee {
            shown: &mut shown,
            caught: Arc::clone(&caught),
        };
        tee.write_all(b"test result: ok. 2 passed;").unwrap();
        assert_eq!(*caught.lock().unwrap(), shown);
    }
}
