//! Runs of agents as a report of kind `verdicts`, which `reports render` makes pages of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reports::model::verdicts::{AgentRun, RuleStanding, RuleVerdict};
use reports::model::{Environment, Report, Tag, Target, Tool, Verdicts, Version, command_line};
use reports::probe;

use super::Run;
use crate::journal::Entry;
use crate::verdict::{Outcome, Verdict};

/// Lines of the journal that a verdict shows; it may rest on more.
const MOST_EVIDENCE: usize = 20;

/// When runs began, and by which command.
#[derive(Debug, Clone)]
pub struct About {
    /// The command line.
    pub command: Vec<String>,
    /// The beginning of the first.
    pub started: Timestamp,
    /// Where their sandboxes were; nothing for plain processes.
    pub sandboxes: Option<Place>,
}

/// A server of sandboxes.
#[derive(Debug, Clone)]
pub struct Place {
    /// Address of its control API.
    pub url: String,
    /// Template of the sandboxes.
    pub template: String,
}

/// The report of some runs of one scenario, which ends now.
#[must_use]
pub fn report(runs: &[Run], about: About) -> Report<Verdicts> {
    let scenario = runs.first().map_or("", |run| run.scenario.as_str());
    let (place, url, template) = match about.sandboxes {
        Some(Place { url, template }) => ("agents in sandboxes", url, template),
        None => ("agents as plain processes", none(), none()),
    };
    Report {
        schema: Version,
        kind: Tag::default(),
        tool: Tool::this("mock-apis", env!("CARGO_PKG_VERSION")),
        run: format!("{scenario}-{}", about.started.as_second()),
        command: about.command,
        seed: runs.first().map(|run| run.seed),
        started_at: about.started,
        ended_at: Timestamp::now(),
        interrupted: false,
        target: Target {
            name: Some(format!("{scenario}, {place}")),
            url,
            template,
            versions: BTreeMap::new(),
        },
        environment: Environment {
            client: Some(probe::client()),
            host: None,
        },
        body: Verdicts {
            agents: runs.iter().map(agent).collect(),
        },
    }
}

fn none() -> String {
    "none".to_owned()
}

fn agent(run: &Run) -> AgentRun {
    AgentRun {
        agent: command_line(&run.agent),
        sandbox: run.sandbox.clone(),
        calls: u64::try_from(run.journal.len()).unwrap_or(u64::MAX),
        verdicts: run
            .verdicts
            .iter()
            .map(|verdict| rule(verdict, &run.journal))
            .collect(),
    }
}

fn rule(verdict: &Verdict, journal: &[Entry]) -> RuleVerdict {
    let shown = verdict.entries.iter().take(MOST_EVIDENCE);
    let lines = shown.filter_map(|n| journal.iter().find(|entry| entry.n == *n).map(line));
    let more = verdict.entries.len().saturating_sub(MOST_EVIDENCE);
    let more = (more > 0).then(|| format!("and {more} more"));
    RuleVerdict {
        rule: verdict.row.clone(),
        title: verdict.title.clone(),
        standing: match verdict.outcome {
            Outcome::Pass => RuleStanding::Kept,
            Outcome::Fail => RuleStanding::Broken,
            Outcome::Inconclusive => RuleStanding::NotExercised,
        },
        evidence: std::iter::once(verdict.because.clone())
            .chain(lines)
            .chain(more)
            .collect(),
    }
}

/// `#3 at 1200 ms: payments POST /v1/payments → 503 (unavailable), sent at 1210 ms`.
fn line(entry: &Entry) -> String {
    let reply = match (&entry.reply, &entry.fault) {
        (Some(reply), Some(fault)) => format!("{} ({fault})", reply.status),
        (Some(reply), None) => reply.status.to_string(),
        (None, Some(fault)) => fault.clone(),
        (None, None) => "nothing".to_owned(),
    };
    let end = entry.end.map_or_else(
        || "not ended".to_owned(),
        |end| format!("{:?} at {} ms", end.how, end.at_ms),
    );
    format!(
        "#{} at {} ms: {} {} {} → {reply}, {end}",
        entry.n, entry.at_ms, entry.service, entry.request.method, entry.request.path
    )
}
