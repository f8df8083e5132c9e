//! Runs checks, a few at a time, and judges how they ended.
//!
//! Results come in the order of the list, whatever the order of their ends. A check that panics or never ends is an error
//! of the suite or a failure of the target, and disturbs no other.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, stream};

use crate::check::{Check, Stop};
use crate::context::{Context, Run};
use crate::evidence::Exchange;
use crate::expected::{Expected, Standing};
use crate::report::{Covered, Outcome, Status};
use crate::requirements::List;
use crate::sdk::steps;
use crate::sets::Set;

/// Seconds that one check may take, before patience.
const CHECK: f64 = 120.0;

/// Which checks are to run.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Areas; all when empty.
    pub areas: Vec<String>,
    /// Checks or requirements by id, or beginnings of ids; all when empty.
    pub ids: Vec<String>,
    /// Of SDK checks only those of these pins; all when empty.
    pub sdks: Vec<String>,
    /// Only those that need not wait.
    pub quick: bool,
}

impl Selection {
    /// Whether a check is in it.
    #[must_use]
    pub fn takes(&self, list: &List, check: &Check) -> bool {
        let named = |id: &String| {
            is_under(check.id, id)
                || list
                    .covered_by(check.id)
                    .iter()
                    .any(|one| is_under(&one.id, id))
        };
        (self.areas.is_empty() || self.areas.iter().any(|area| area == check.area()))
            && (self.ids.is_empty() || self.ids.iter().any(named))
            && (check.quick || !self.quick)
            && (self.sdks.is_empty()
                || steps::pin_of(check.id).is_none_or(|pin| self.sdks.iter().any(|sdk| sdk == pin)))
    }
}

/// Whether an id is another one, or begins with all of its parts.
fn is_under(id: &str, of: &str) -> bool {
    id == of
        || id
            .strip_prefix(of)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// What a check came to, before it is put into a report.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Status.
    pub status: Status,
    /// Expected, where it failed.
    pub expected: Option<String>,
    /// Actual, or the reason.
    pub actual: Option<String>,
    /// Milliseconds.
    pub ms: f64,
    /// Evidence.
    pub exchanges: Vec<Exchange>,
}

/// Runs one check.
pub async fn run_one(run: &Arc<Run>, check: &Check) -> Ran {
    let context = Context::of(Arc::clone(run), check.id);
    let kept = context.clone();
    let limit = context.limit(CHECK);
    let since = Instant::now();
    // A task of its own: a panic ends it, not the run.
    let task = tokio::spawn((check.run)(context));
    let abort = task.abort_handle();
    let ended = tokio::time::timeout(limit, task).await;
    let (status, expected, actual) = match ended {
        Ok(Ok(Ok(()))) => (Status::Pass, None, None),
        Ok(Ok(Err(Stop::Fail { expected, actual }))) => {
            (Status::Fail, Some(expected), Some(actual))
        }
        Ok(Ok(Err(Stop::Untestable(why)))) => (Status::Untestable, None, Some(why)),
        Ok(Ok(Err(Stop::Harness(why)))) => (Status::HarnessError, None, Some(why)),
        Ok(Err(error)) => (Status::HarnessError, None, Some(error.to_string())),
        Err(_) => {
            abort.abort();
            (
                Status::Fail,
                Some(format!("an end within {limit:?}")),
                Some("it went on".to_owned()),
            )
        }
    };
    let ms = since.elapsed().as_secs_f64() * 1_000.0;
    kept.tidy().await;
    let shown = |text: Option<String>| text.map(|text| run.secrets.text(&text));
    Ran {
        status,
        expected: shown(expected),
        actual: shown(actual),
        ms,
        exchanges: if status == Status::Pass {
            Vec::new()
        } else {
            kept.recorder.exchanges()
        },
    }
}

/// How a run is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which checks.
    pub selection: Selection,
    /// How many at a time.
    pub parallel: usize,
    /// Known failures.
    pub expected: Expected,
    /// The frozen set whose checks are scored; all are when there is none.
    pub set: Option<Set>,
    /// Beginning of the command that runs one check again.
    pub rerun: String,
}

/// Runs all that is selected; tells each result when it is there. Dropping the future stops everything.
pub async fn run_all(run: &Arc<Run>, list: &List, plan: &Plan, mut told: impl FnMut(&Outcome)) {
    let selected: Vec<&Check> = list
        .checks
        .iter()
        .filter(|check| plan.selection.takes(list, check))
        .collect();
    let mut results = stream::iter(selected)
        .map(|check| async move {
            let ran = if is_declared(run, check) {
                declared()
            } else {
                run_one(run, check).await
            };
            outcome(list, plan, check, ran)
        })
        .buffer_unordered(plan.parallel.max(1));
    while let Some(outcome) = results.next().await {
        told(&outcome);
    }
}

/// Whether the target declares not to support it.
#[must_use]
pub fn is_declared(run: &Run, check: &Check) -> bool {
    run.target
        .unsupported
        .iter()
        .any(|declared| is_under(check.id, declared))
}

fn declared() -> Ran {
    Ran {
        status: Status::Unsupported,
        expected: None,
        actual: Some("the target declares not to support it".to_owned()),
        ms: 0.0,
        exchanges: Vec::new(),
    }
}

fn outcome(list: &List, plan: &Plan, check: &Check, ran: Ran) -> Outcome {
    let requirements = list.covered_by(check.id);
    let scored = |set: &Set| set.checks.contains(check.id);
    let standing = if plan.set.as_ref().is_none_or(scored) {
        plan.expected.standing(check.id, ran.status)
    } else {
        Standing::Unscored
    };
    Outcome {
        check: check.id.to_owned(),
        area: check.area().to_owned(),
        level: list.level(check.id),
        title: check.title.to_owned(),
        status: ran.status,
        standing,
        known_reason: plan.expected.reason(check.id).map(str::to_owned),
        expected: ran.expected,
        actual: ran.actual,
        ms: ran.ms,
        requirements: requirements
            .into_iter()
            .map(|one| Covered {
                id: one.id.clone(),
                level: one.level,
                text: one.text.clone(),
                source: one.source.clone(),
            })
            .collect(),
        exchanges: ran.exchanges,
        rerun: format!("{} --check {}", plan.rerun, check.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_matched_by_whole_parts() {
        assert!(is_under("process/exit-code", "process"));
        assert!(is_under("process/exit-code", "process/exit-code"));
        assert!(!is_under("process/exit-code-2", "process/exit-code"));
        assert!(!is_under("processes/x", "process"));
    }
}
