//! The SDKs' scenarios against a daemon with real microVMs, and what is left afterwards.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::guests;
use super::leaks::{self, Inventory};
use super::tally::{Count, Tally};
use crate::cache::Ctx;
use crate::commands::{HostArgs, Place, demo, setup};
use crate::daemon::{Daemon, Folders};
use crate::exec::{CommandLine, Exit, Output};
use crate::host::Host;
use crate::mocks::Mocks;
use crate::sdks::Sdks;
use crate::{script, signals};

/// The longest that one suite may take. A lab is slow.
const SUITE_LIMIT: Duration = Duration::from_secs(45 * 60);

/// What the daemon may promise to its sandboxes, in MiB: more than twenty of the smallest.
const PROMISES_MIB: u32 = 24 * 1_024;

/// What mock APIs beside the daemon play.
const SCENARIO: &str = "mock-apis/scenarios/travel.yaml";

/// Which suites run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// All.
    All,
    /// The VMM's tests with guests.
    Vmm,
    /// The Python tests whose names match.
    Keyword(&'a str),
}

/// Runs the suites of `part` against a daemon at `place`; a failing one doesn't keep the next from running. `rounds`
/// snapshots are taken under load.
pub fn run(
    ctx: &Ctx,
    host: &HostArgs,
    place: Place,
    part: Part<'_>,
    rounds: u32,
    tally: &mut Tally,
) -> Result<()> {
    let keyword = match part {
        Part::Keyword(keyword) => Some(keyword),
        Part::All | Part::Vmm => None,
    };
    let parts = setup::prepare(ctx, place)?;
    let guests = match keyword {
        Some(_) => Vec::new(),
        None => guests::build(ctx)?,
    };
    let clients = match part {
        Part::Vmm => None,
        _ => Some((Sdks::get(ctx)?, Mocks::get(ctx)?)),
    };
    signals::catch()?;
    let host = host.start(ctx, place)?;
    guests::run(ctx, &host, &parts, &guests, rounds, tally)?;
    let Some((sdks, mocks)) = clients else {
        return Ok(());
    };
    // Without folders yet: files of a daemon to come can't be there.
    let nothing = Folders {
        state: "/nonexistent".into(),
        run: "/nonexistent".into(),
    };
    let untouched = Inventory::take(&host, &nothing)?;
    // Forks promise more memory than the host has and use little of it; the daemon keeps a floor free.
    let mut flags = vec![format!("--memory-limit-mib={PROMISES_MIB}")];
    flags.extend(mocks.flags(&host, &ctx.workspace.join(SCENARIO))?);
    let mut daemon = Daemon::start_with(ctx, &parts, host, None, &flags)?;
    let idle = Inventory::take(daemon.host(), daemon.folders())?;

    if keyword.is_none() {
        demonstrate(ctx, &mut daemon, &sdks, tally)?;
    }
    for mut suite in suites(ctx, &sdks, keyword)? {
        suite.command = suite
            .command
            .env("SANDBOXD_MOCK_APIS", mocks.program.to_string_lossy())
            .env("SANDBOXD_MOCK_LISTEN", mocks.listen.to_string());
        suite_run(ctx, &mut daemon, &sdks, &suite, keyword.is_some(), tally)?;
    }

    let folders = daemon.folders().clone();
    leak_check(
        ctx,
        tally,
        "leaks: sandboxes",
        daemon.host(),
        &folders,
        &idle,
    )?;
    let started = Instant::now();
    let host = match daemon.stop() {
        Ok(host) => host,
        Err(error) => {
            ctx.progress.line(&format!("{error:#}"));
            tally.add("daemon shutdown", Count::one(false), started.elapsed());
            return Ok(());
        }
    };
    tally.add("daemon shutdown", Count::one(true), started.elapsed());
    leak_check(ctx, tally, "leaks: daemon", &host, &nothing, &untouched)
}

/// One program that runs tests and writes what happened to a JUnit file.
struct Suite {
    name: &'static str,
    command: CommandLine,
    junit: PathBuf,
}

fn suites(ctx: &Ctx, sdks: &Sdks, keyword: Option<&str>) -> Result<Vec<Suite>> {
    let e2e = ctx.workspace.join("tests/e2e");
    let results = ctx.workspace.join("target/e2e");
    std::fs::create_dir_all(&results)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let pytest = |folder: &str, junit: &Path| {
        let mut words = vec![
            text(&sdks.python),
            "-m".into(),
            "pytest".into(),
            "-v".into(),
        ];
        words.extend(["-p", "no:cacheprovider"].map(String::from));
        words.push(format!("--junitxml={}", junit.display()));
        if let Some(keyword) = keyword {
            words.extend(["-k".into(), keyword.to_owned()]);
        }
        words.push(folder.to_owned());
        CommandLine::new(words).cwd(&e2e)
    };
    let mut suites = Vec::new();
    for (name, folder) in [
        ("Python SDK scenarios", "python"),
        ("host scenarios", "host"),
    ] {
        let junit = results.join(format!("{folder}.xml"));
        let command = pytest(folder, &junit);
        suites.push(Suite {
            name,
            command,
            junit,
        });
    }
    if keyword.is_none() {
        let junit = results.join("js.xml");
        let words = [
            text(&sdks.node),
            "--test".into(),
            "--test-concurrency=1".into(),
            "--test-reporter=spec".into(),
            "--test-reporter-destination=stdout".into(),
            "--test-reporter=junit".into(),
            format!("--test-reporter-destination={}", junit.display()),
        ];
        let mut words = Vec::from(words);
        let mut files: Vec<_> = std::fs::read_dir(e2e.join("js"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
            .map(|path| text(&path))
            .collect();
        files.sort();
        words.extend(files);
        let command = CommandLine::new(words).cwd(&e2e);
        suites.push(Suite {
            name: "JavaScript SDK scenarios",
            command,
            junit,
        });
    }
    Ok(suites)
}

fn suite_run(
    ctx: &Ctx,
    daemon: &mut Daemon,
    sdks: &Sdks,
    suite: &Suite,
    keyword: bool,
    tally: &mut Tally,
) -> Result<()> {
    ctx.progress.line(&format!("\n── {}", suite.name));
    let _ = std::fs::remove_file(&suite.junit);
    let started = Instant::now();
    let command = script::pointed(suite.command.clone(), daemon, sdks)?;
    let exit = script::run(daemon, &command, Output::inherit(), SUITE_LIMIT)?;
    let mut count = Count::of_junit(&std::fs::read_to_string(&suite.junit).unwrap_or_default());
    // pytest's status where the keyword fits none of a folder's tests.
    if keyword && exit == Exit::Code(5) {
        return Ok(());
    }
    // A suite that ran nothing, or ended badly without a failed test, has failed as a whole.
    if count.failed == 0 && (!exit.success() || count.passed == 0) {
        ctx.progress.line(&format!(
            "{}: {exit}, {} tests passed",
            suite.name, count.passed
        ));
        count.failed = 1;
    }
    tally.add(suite.name, count, started.elapsed());
    Ok(())
}

fn demonstrate(ctx: &Ctx, daemon: &mut Daemon, sdks: &Sdks, tally: &mut Tally) -> Result<()> {
    ctx.progress.line("\n── demo");
    let chart = demo::chart(ctx, None)?;
    let _ = std::fs::remove_file(&chart);
    for (name, command) in ["demo, Python", "demo, JavaScript"]
        .into_iter()
        .zip(demo::scripts(ctx, sdks, &chart))
    {
        let started = Instant::now();
        let command = script::pointed(command, daemon, sdks)?;
        let exit = script::run(daemon, &command, Output::inherit(), SUITE_LIMIT)?;
        tally.add(name, Count::one(exit.success()), started.elapsed());
    }
    Ok(())
}

fn leak_check(
    ctx: &Ctx,
    tally: &mut Tally,
    name: &str,
    host: &Host,
    folders: &Folders,
    before: &Inventory,
) -> Result<()> {
    let started = Instant::now();
    let left = leaks::settle(host, folders, before)?;
    for line in &left {
        ctx.progress.line(&format!("left behind: {line}"));
    }
    tally.add(name, Count::one(left.is_empty()), started.elapsed());
    Ok(())
}
