//! `cargo xtask contract`: agents in sandboxes of a daemon brought up for them, judged by how they use mock APIs.
//!
//! ```text
//! scenario ─▶ flags ─▶ daemon ─▶ mock-apis contract: one sandbox per agent ─▶ verdicts ─▶ of the shipped agents: as their names say?
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{HostArgs, setup};
use crate::cache::Ctx;
use crate::daemon::Daemon;
use crate::exec::{CommandLine, Exit, Output};
use crate::mocks::Mocks;
use crate::sdks::Sdks;
use crate::{script, signals};

/// The longest that all agents together may take. A lab is slow.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Run agents in sandboxes against mock APIs that misbehave, and judge them.
///
/// By default the shipped agents against the shipped scenario: the good one has to pass every rule, each bad one to break
/// exactly the rule in its name.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario file [default: mock-apis/scenarios/travel.yaml].
    #[arg(long, value_name = "FILE", requires = "agent")]
    scenario: Option<PathBuf>,

    /// Command of an agent of yours; may be repeated.
    #[arg(long, value_name = "COMMAND")]
    agent: Vec<String>,

    /// A file or folder of your agent's, to be found under its name where it runs; may be repeated.
    #[arg(long, value_name = "PATH", requires = "agent")]
    upload: Vec<PathBuf>,

    /// Where the report goes [default: target/contract in the source tree].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    host: HostArgs,
}

/// Runs `cargo xtask contract`.
///
/// # Errors
/// When set-up, the daemon or an agent cannot be run.
pub fn run(ctx: &Ctx, args: &Args) -> Result<ExitCode> {
    let place = args.host.place(ctx)?;
    let parts = setup::prepare(ctx, place)?;
    let sdks = Sdks::get(ctx)?;
    let mocks = Mocks::get(ctx)?;
    let folder = ctx.workspace.join("mock-apis");
    let scenario = match &args.scenario {
        Some(scenario) => std::path::absolute(scenario)?,
        None => folder.join("scenarios/travel.yaml"),
    };
    let shipped = args.agent.is_empty();
    let (agents, uploads) = if shipped {
        (shipped_agents(&folder)?, vec![folder.join("agents")])
    } else {
        (args.agent.clone(), args.upload.clone())
    };
    let out = match &args.out {
        Some(out) => std::path::absolute(out)?,
        None => ctx.workspace.join("target/contract"),
    };
    std::fs::create_dir_all(&out)?;
    signals::catch()?;
    let host = args.host.start(ctx, place)?;
    let flags = mocks.flags(&host, &scenario)?;
    let mut daemon = Daemon::start_with(ctx, &parts, host, None, &flags)?;
    let json = out.join("runs.json");
    let command = command(&mocks, &scenario, &agents, &uploads, &out, &json)?;
    let command = script::pointed(command, &daemon, &sdks)?;
    let exit = script::run(&mut daemon, &command, Output::inherit(), LIMIT)?;
    if !matches!(exit, Exit::Code(0 | 1)) {
        bail!(
            "mock-apis contract ended with {exit}; the daemon's log is {}",
            daemon.log().display()
        );
    }
    drop(daemon.stop()?);
    println!("report: {}", out.display());
    if !shipped {
        return Ok(ExitCode::from(u8::from(!exit.success())));
    }
    let runs: serde_json::Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let surprises = surprises(runs.as_array().context("runs.json has no list")?);
    for surprise in &surprises {
        println!("not as it should be: {surprise}");
    }
    if surprises.is_empty() {
        println!("matrix: the good agent passes every rule, each bad one breaks exactly its own");
    }
    Ok(ExitCode::from(u8::from(!surprises.is_empty())))
}

fn command(
    mocks: &Mocks,
    scenario: &Path,
    agents: &[String],
    uploads: &[PathBuf],
    out: &Path,
    json: &Path,
) -> Result<CommandLine> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut words = vec![text(&mocks.program), "contract".to_owned()];
    words.extend(["--scenario".to_owned(), text(scenario)]);
    words.extend(["--listen".to_owned(), mocks.listen.to_string()]);
    for agent in agents {
        words.extend(["--agent".to_owned(), agent.clone()]);
    }
    for upload in uploads {
        words.extend(["--upload".to_owned(), text(&std::path::absolute(upload)?)]);
    }
    words.extend(["--out".to_owned(), text(out)]);
    words.extend(["--json".to_owned(), text(json)]);
    Ok(CommandLine::new(words))
}

/// Commands of the agents in `folder`/agents, the good one first.
fn shipped_agents(folder: &Path) -> Result<Vec<String>> {
    let files = std::fs::read_dir(folder.join("agents"))?;
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut bad: Vec<_> = names.filter(|name| name.starts_with("bad_")).collect();
    bad.sort();
    let all = std::iter::once("good.py".to_owned()).chain(bad);
    Ok(all
        .filter(|name| name.ends_with(".py"))
        .map(|name| format!("python3 agents/{name}"))
        .collect())
}

/// What is not as the agents' names say: `good.py` fails nothing and leaves nothing out, `bad_X.py` fails X alone.
fn surprises(runs: &[serde_json::Value]) -> Vec<String> {
    let mut surprises = Vec::new();
    for run in runs {
        let agent = run["agent"]
            .as_array()
            .and_then(|words| words.last()?.as_str());
        let name = agent.and_then(|path| path.rsplit('/').next()?.strip_suffix(".py"));
        let name = name.unwrap_or("an agent without a name");
        let no_verdicts = Vec::new();
        let verdicts = run["verdicts"].as_array().unwrap_or(&no_verdicts);
        let rows = |outcome: &str| -> Vec<&str> {
            let these = verdicts.iter().filter(|it| it["outcome"] == outcome);
            these.filter_map(|it| it["row"].as_str()).collect()
        };
        let failed = rows("fail");
        let expected: Vec<_> = name.strip_prefix("bad_").into_iter().collect();
        if failed != expected {
            surprises.push(format!("{name} fails {failed:?}"));
        }
        let open = rows("inconclusive");
        if name == "good" && (!open.is_empty() || verdicts.is_empty()) {
            surprises.push(format!("{name} leaves open {open:?}"));
        }
        if run["exit_code"] != 0 {
            let (code, stderr) = (&run["exit_code"], &run["stderr"]);
            surprises.push(format!("{name} exits with {code}: {stderr}"));
        }
    }
    surprises
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shipped_agents_are_found_the_good_one_first() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mock-apis");
        let agents = shipped_agents(&folder).unwrap();
        assert_eq!(agents[0], "python3 agents/good.py");
        assert!(agents.len() > 10 && agents[1..].iter().all(|it| it.contains("/bad_")));
    }

    #[test]
    fn whatever_is_not_as_the_name_says_is_a_surprise() {
        let run = |agent: &str, outcomes: &[(&str, &str)]| {
            let verdicts = outcomes
                .iter()
                .map(|(row, outcome)| json!({"row": row, "outcome": outcome}));
            json!({
                "agent": ["python3", format!("agents/{agent}.py")],
                "exit_code": 0,
                "verdicts": verdicts.collect::<Vec<_>>(),
            })
        };
        let fine = [
            run("good", &[("a", "pass"), ("b", "pass")]),
            run("bad_a", &[("a", "fail"), ("b", "inconclusive")]),
        ];
        assert_eq!(surprises(&fine), [""; 0]);
        for odd in [
            run("good", &[("a", "pass"), ("b", "fail")]),
            run("good", &[("a", "inconclusive")]),
            run("good", &[]),
            run("bad_a", &[("a", "pass")]),
            run("bad_a", &[("a", "fail"), ("b", "fail")]),
            json!({"agent": ["python3", "agents/bad_a.py"], "exit_code": 1, "verdicts": [{"row": "a", "outcome": "fail"}]}),
        ] {
            assert_eq!(surprises(std::slice::from_ref(&odd)).len(), 1, "{odd}");
        }
    }
}
