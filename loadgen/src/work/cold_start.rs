//! From nothing to a sandbox that is good for something, on one of four clocks.
//!
//! ```text
//!   planned ─┬─► create answered in full ............ accepted
//!            ├─► … agent answers GET /health ......... ready        (asked again until it does)
//!            ├─► … exit of /bin/true received ........ first_exec   (asked once)
//!            └─► … result of 1+1 received ............ first_code   (asked once)
//!   then, off the clock: a command must be answered (unless the clock has seen one), and the sandbox is killed
//! ```
//!
//! A sandbox that does not answer a command is a failure on every clock.

use std::time::{Duration, Instant};

use reports::model::load::Clock;

use super::{During, Failed, failed, reading, since};
use crate::drive::{Ledger, Work};
use crate::e2b::{CallError, Client, Sandbox, timing::Spans};
use crate::record::{Job, Outcome, Reading};
use crate::wire::WireError;

/// First pause between two looks whether the agent is there; each next one is twice as long, up to [`PAUSE_MOST`].
const PAUSE_FIRST: Duration = Duration::from_millis(1);
/// See [`PAUSE_FIRST`].
const PAUSE_MOST: Duration = Duration::from_millis(16);
/// Series of one side: `accepted`, the clock where it is another one, `kill`.
pub const SERIES: usize = 3;

/// One side of a measurement.
#[derive(Debug, Clone)]
pub struct Side {
    /// Whom to ask.
    pub client: Client,
    /// A snapshot instead of the template.
    pub from: Option<String>,
}

/// The work.
#[derive(Debug, Clone)]
pub struct ColdStart {
    /// Sides, by the number in a job.
    pub sides: Vec<Side>,
    /// Which clock of the sides, by the number in a job; series of side `s` begin at `SERIES * s`.
    pub clock: Clock,
    /// Whether a sandbox must answer a command also where the clock has not seen one.
    pub verify: bool,
    /// What was made.
    pub ledgers: Vec<Ledger>,
}

/// Where the series of a side begin.
#[must_use]
pub fn first_series(side: usize) -> usize {
    SERIES * side
}

impl ColdStart {
    /// The work with one side, whose sandboxes come from the target's template.
    #[must_use]
    pub fn one(client: Client, ledger: Ledger, clock: Clock, verify: bool) -> Self {
        let side = Side { client, from: None };
        Self {
            sides: vec![side],
            clock,
            verify,
            ledgers: vec![ledger],
        }
    }

    /// Series whose values a whole turn gives, `kill` apart.
    fn clocks(&self, side: usize) -> Vec<usize> {
        let first = first_series(side);
        if self.clock == Clock::Accepted {
            vec![first]
        } else {
            vec![first, first + 1]
        }
    }
}

/// What a good start came to.
struct Started {
    accepted: u64,
    value: u64,
    spans: Spans,
}

impl Work for ColdStart {
    fn series(&self, job: Job) -> Vec<usize> {
        self.clocks(job.side)
    }

    async fn turn(&self, job: Job, planned: Instant) -> Outcome {
        let (Some(side), Some(ledger)) = (self.sides.get(job.side), self.ledgers.get(job.side))
        else {
            return Outcome::default();
        };
        let clocks = self.clocks(job.side);
        let created = side.client.create(ledger.run(), side.from.as_deref()).await;
        let created = match created.during("create") {
            Ok(created) => created,
            Err(error) => return failed(&error, &clocks, None),
        };
        let accepted = since(planned, Instant::now());
        let sandbox = created.value;
        ledger.made(&sandbox.id);
        let started = self.started(&side.client, &sandbox, planned).await;
        let mut outcome = match started {
            Err(error) => failed(&error, &clocks, Some(sandbox.id.clone())),
            Ok(value) => Outcome {
                readings: readings(
                    &clocks,
                    &Started {
                        accepted,
                        value: value.unwrap_or(accepted),
                        spans: created.spans,
                    },
                ),
                sandbox: Some(sandbox.id.clone()),
                trouble: None,
            },
        };
        self.kill(job, &mut outcome, &sandbox).await;
        outcome
    }
}

impl ColdStart {
    /// Takes a sandbox to where the clock stops; gives the clock's value where it is not `accepted`.
    async fn started(
        &self,
        client: &Client,
        sandbox: &Sandbox,
        planned: Instant,
    ) -> Result<Option<u64>, Failed> {
        let at = match self.clock {
            Clock::Accepted => None,
            Clock::Ready => Some(ready(client, sandbox).await.during("ready")?),
            Clock::FirstExec => Some(client.answers(sandbox).await.during("exec")?),
            Clock::FirstCode => Some(client.run_code(sandbox).await.during("code")?),
        };
        if self.verify && matches!(self.clock, Clock::Accepted | Clock::Ready) {
            client.answers(sandbox).await.during("exec")?;
        }
        Ok(at.map(|at| since(planned, at)))
    }

    async fn kill(&self, job: Job, outcome: &mut Outcome, sandbox: &Sandbox) {
        let (Some(side), Some(ledger)) = (self.sides.get(job.side), self.ledgers.get(job.side))
        else {
            return;
        };
        let began = Instant::now();
        let killed = side.client.kill(sandbox).await.during("kill");
        let result = match &killed {
            Ok(_) => {
                ledger.gone(&sandbox.id);
                Ok(since(began, Instant::now()))
            }
            Err(error) => {
                outcome.trouble.get_or_insert_with(|| error.trouble());
                Err(error.kind())
            }
        };
        outcome.readings.push(Reading {
            series: first_series(job.side) + SERIES - 1,
            result,
            stages: Vec::new(),
        });
    }
}

fn readings(clocks: &[usize], started: &Started) -> Vec<Reading> {
    let mut out = Vec::with_capacity(SERIES);
    let stages = &started.spans.stages;
    let mut clocks = clocks.iter();
    if let Some(&first) = clocks.next() {
        out.push(reading(first, started.accepted, stages.clone()));
    }
    if let Some(&second) = clocks.next() {
        let mut stages = stages.clone();
        if !stages.is_empty() {
            // What the client itself saw of the rest, so that only the way and the client stay unexplained.
            let rest = started.value.saturating_sub(started.accepted);
            stages.push(("after the create (client)".to_owned(), rest));
        }
        out.push(reading(second, started.value, stages));
    }
    out
}

/// Asks until the agent is there.
async fn ready(client: &Client, sandbox: &Sandbox) -> Result<Instant, CallError> {
    let limit = client.target.limits.call;
    let asked = async {
        let mut pause = PAUSE_FIRST;
        while client.health(sandbox).await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MOST);
        }
        Instant::now()
    };
    let at = tokio::time::timeout(limit, asked).await;
    at.map_err(|_| WireError::Late(limit).into())
}
