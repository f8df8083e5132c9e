//! Runs the suite's scenario programs with a pin's installation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::group;
use super::lines::{self, Line};
use super::pins::Language;
use super::setup::Project;
use crate::check::{Stop, fail};
use crate::context::unique;
use crate::redact::Secrets;

macro_rules! programs {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../scenarios/", $path)))),+]
    };
}

/// All programs: path and text.
const PROGRAMS: &[(&str, &str)] = programs![
    "python/main.py",
    "python/harness.py",
    "python/resolve.py",
    "python/topic_lifecycle.py",
    "python/topic_commands.py",
    "python/topic_files.py",
    "python/topic_watch.py",
    "python/topic_pty.py",
    "python/topic_killed.py",
    "python/topic_async.py",
    "python/topic_pause.py",
    "python/topic_code.py",
    "js/main.mjs",
    "js/harness.mjs",
    "js/topic_lifecycle.mjs",
    "js/topic_commands.mjs",
    "js/topic_files.mjs",
    "js/topic_watch.mjs",
    "js/topic_pty.mjs",
    "js/topic_killed.mjs",
    "js/topic_pause.mjs",
    "js/topic_code.mjs",
];

/// Bytes of standard error that are kept as evidence: its end.
const TAIL: usize = 4_000;

/// A topic against a server.
#[derive(Clone, Debug, Serialize)]
pub struct Job {
    /// What an unmodified SDK reads, and what the scenarios need beside it.
    pub env: BTreeMap<String, String>,
    /// Topic.
    pub topic: &'static str,
    /// Only these steps; all when none.
    pub steps: Option<Vec<String>>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Played {
    /// Results in order.
    pub lines: Vec<Line>,
    /// Exit code; none when it was killed.
    pub code: Option<i32>,
    /// The time, if it was over.
    pub late: Option<Duration>,
    /// End of standard error, without secrets.
    pub stderr: String,
    /// The environment, as `name: value` lines without secrets.
    pub env: Vec<String>,
}

impl Played {
    /// Why a step has no line.
    #[must_use]
    pub fn silent(&self, step: &str) -> Stop {
        match self.late {
            Some(limit) => fail(
                format!("{step} to end, with its topic, within {limit:?}"),
                "it went on and was killed",
            ),
            None => Stop::Harness(format!(
                "the scenario ended with code {:?} and without a word on {step}: {}",
                self.code,
                self.stderr.trim_end().lines().last().unwrap_or("")
            )),
        }
    }
}

/// Why a scenario could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The programs could not be written.
    #[error("the scenarios cannot be written to the cache folder: {0}")]
    Write(std::io::Error),
    /// The interpreter does not start.
    #[error("{}: {source}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The suite's own mistake.
    #[error("the jobs cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs jobs in one process.
///
/// # Errors
/// See [`ScenarioError`].
pub async fn play(
    project: &Project,
    jobs: &[Job],
    limit: Duration,
    secrets: &Secrets,
) -> Result<Played, ScenarioError> {
    let programs = written(project).map_err(ScenarioError::Write)?;
    let mut command = Command::new(&project.program);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR", "SYSTEMROOT"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("LANG", "C.UTF-8");
    // Node reads its certificates when it starts, so a job's settings are also the process's.
    if let Some(first) = jobs.first() {
        command.envs(&first.env);
    }
    match project.language {
        Language::Python => {
            command
                .args(["-B", "-u"])
                .arg(programs.join("python/main.py"));
        }
        Language::Js => {
            command.arg(programs.join("js/main.mjs"));
            command.env("E2B_CONFORMANCE_PROJECT", &project.folder);
        }
    }
    let plan = serde_json::to_vec(&serde_json::json!({ "jobs": jobs }))?;
    let ended = group::run(command, &plan, limit).await;
    let ended = ended.map_err(|source| ScenarioError::Start {
        program: project.program.clone(),
        source,
    })?;
    let lines = lines::read(&ended.stdout, secrets);
    let from = ended.stderr.len().saturating_sub(TAIL);
    let tail = String::from_utf8_lossy(&ended.stderr[from..]).into_owned();
    Ok(Played {
        lines,
        code: ended.code,
        late: ended.late.then_some(limit),
        stderr: secrets.text(&tail),
        env: jobs
            .first()
            .into_iter()
            .flat_map(|job| &job.env)
            .map(|(name, value)| format!("{name}: {}", secrets.text(value)))
            .collect(),
    })
}

/// The folder with the programs; written when it is not there.
fn written(project: &Project) -> std::io::Result<PathBuf> {
    let mut digest = Sha256::new();
    for (path, text) in PROGRAMS {
        digest.update(path.as_bytes());
        digest.update([0]);
        digest.update(text.as_bytes());
        digest.update([0]);
    }
    let hash: String = digest
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let folder = project.cache.join(format!("scenarios-{hash}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let partial = project.cache.join(format!("partial-{}", unique()));
    for (path, text) in PROGRAMS {
        let path = partial.join(path);
        if let Some(above) = path.parent() {
            std::fs::create_dir_all(above)?;
        }
        std::fs::write(path, text)?;
    }
    match std::fs::rename(&partial, &folder) {
        Err(error) if !folder.is_dir() => Err(error),
        Err(_) => std::fs::remove_dir_all(&partial).map(|()| folder),
        Ok(()) => Ok(folder),
    }
}
