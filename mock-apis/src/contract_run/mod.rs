//! One agent through one scenario: mocks up, agent run, journal judged.
//!
//! ```text
//!   Server ◄── calls ── agent: a plain process (local), or a command in a sandbox (sandboxed)
//!      │ journal                    │ Ended: exit code, output
//!      └──────────► judge ◄─────────┘ ──► Run ──► table, report
//! ```

pub mod files;
pub mod local;
pub mod report;
pub mod sandboxed;
pub mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::journal::Entry;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::verdict::{self, Outcome, Verdict};

/// Most bytes of the agent's output that are kept, of each stream: 1 MiB. The rest is read and forgotten.
const KEPT_OUTPUT: usize = 1 << 20;

/// The last connection's end is noted a moment after the agent's.
const LAST_END: Duration = Duration::from_millis(100);

/// The result of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// The agent's command.
    pub agent: Vec<String>,
    /// Where it ran: `plain process`, which isolates nothing, or `sandbox`.
    pub isolation: String,
    /// The sandbox's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Its exit code; nothing when it was ended by a signal or by the time-out.
    pub exit_code: Option<i32>,
    /// Whether its time was over.
    pub timed_out: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// One for each expectation.
    pub verdicts: Vec<Verdict>,
    /// What it called.
    pub journal: Vec<Entry>,
}

/// How an agent ended.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    exit_code: Option<i32>,
    timed_out: bool,
    stdout: String,
    stderr: String,
}

impl Run {
    /// The journal, one JSON object per line.
    pub fn journal_lines(&self) -> String {
        let lines = self
            .journal
            .iter()
            .filter_map(|entry| serde_json::to_string(entry).ok());
        lines.map(|line| line + "\n").collect()
    }

    /// Whether a rule was broken.
    pub fn failed(&self) -> bool {
        let outcomes = self.verdicts.iter().map(|verdict| verdict.outcome);
        outcomes.into_iter().any(|it| it == Outcome::Fail)
    }
}

/// Judges what an agent did: everything that was called, or what its sandbox called.
async fn judge(
    server: &Server,
    scenario: &Scenario,
    agent: &[String],
    sandbox: Option<String>,
    ended: Ended,
) -> Run {
    tokio::time::sleep(LAST_END).await;
    let state = server.shared.lock();
    let own = |entry: &&Entry| sandbox.as_ref().is_none_or(|id| *id == entry.caller);
    let journal: Vec<_> = state
        .journal
        .entries()
        .iter()
        .filter(own)
        .cloned()
        .collect();
    Run {
        verdicts: verdict::judge(&scenario.expectations, &journal, state.journal.lost()),
        scenario: scenario.name.clone(),
        seed: scenario.seed,
        agent: agent.to_vec(),
        isolation: sandbox
            .as_ref()
            .map_or("plain process", |_| "sandbox")
            .to_owned(),
        sandbox,
        exit_code: ended.exit_code,
        timed_out: ended.timed_out,
        stdout: ended.stdout,
        stderr: ended.stderr,
        journal,
    }
}

/// The variable that tells an agent where a service is.
fn variable(service: &str) -> String {
    format!("{}_URL", service.to_uppercase().replace('-', "_"))
}
