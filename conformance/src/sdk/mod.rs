//! The second driver: the official SDKs, unmodified, at pinned versions, running scenarios of the suite.
//!
//! ```text
//!  scenarios/pins.toml ──► setup: a venv or node project per pin, in a cache folder, made once
//!  scenarios/{python,js} ─► scenario: one process per pin and topic ──► JSON lines, one per step ──► checks
//!                                │ E2B_API_URL, E2B_SANDBOX_URL      (versions that know them)
//!                                │ E2B_DOMAIN ──► front: ends TLS     (older versions)
//!                                ▼
//!                              target
//! ```
//!
//! A check is one step of a topic with one pin. The first check of a topic that is run runs the topic; the others of it read
//! their step's line.

pub mod front;
pub mod group;
pub mod lines;
pub mod pins;
pub mod scenario;
pub mod settings;
pub mod setup;
pub mod steps;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::check::{Stop, Verdict};
use crate::context::Context;
use front::Front;
use lines::Line;
use pins::Pin;
use scenario::{Job, Played, ScenarioError};
use setup::{Project, SetupError};

/// Seconds that the scenario of a topic may take, before patience; less than a check may.
const TOPIC: f64 = 90.0;

type Cell<T> = Arc<OnceCell<T>>;
/// A value per key, each made once.
type Cells<K, T> = Mutex<BTreeMap<K, Cell<T>>>;
type Topic = (&'static str, &'static str);
type Installed = Result<Project, Arc<SetupError>>;
type Outcome = Result<Arc<Played>, Stop>;

/// What the SDK checks of a run share.
#[derive(Debug, Default)]
pub struct Shared {
    projects: Cells<&'static str, Installed>,
    topics: Cells<Topic, Outcome>,
    front: OnceCell<Front>,
}

impl Shared {
    /// A pin's project; made when it is not there.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub async fn project(&self, pin: &'static Pin) -> Result<Project, Arc<SetupError>> {
        let cell = cell(&self.projects, pin.name.as_str());
        cell.get_or_init(|| async { setup::project(pin).await.map_err(Arc::new) })
            .await
            .clone()
    }

    /// The address where older SDKs find the target.
    ///
    /// # Errors
    /// When it cannot listen, or its certificate cannot be made.
    pub async fn front(&self, c: &Context) -> Result<&Front, Stop> {
        // A failure is not kept: a target that is full now may not be later.
        self.front
            .get_or_try_init(|| async {
                let own = own_domain(c)
                    .await
                    .map_err(|stop| stop.blocks("the domain of a sandbox"))?;
                Front::start(c.target(), own.as_deref())
                    .await
                    .map_err(|error| Stop::Harness(error.to_string()))
            })
            .await
    }

    async fn topic(
        &self,
        c: &Context,
        pin: &'static Pin,
        topic: &'static str,
    ) -> Result<Arc<Played>, Stop> {
        let cell = cell(&self.topics, (pin.name.as_str(), topic));
        cell.get_or_init(|| async {
            let project = self
                .project(pin)
                .await
                .map_err(|error| Stop::Untestable(error.to_string()))?;
            let job = Job {
                env: settings::environment(c, pin).await?,
                topic,
                steps: None,
            };
            let played = scenario::play(&project, &[job], c.limit(TOPIC), c.secrets()).await;
            played
                .map(Arc::new)
                .map_err(|error| Stop::Harness(error.to_string()))
        })
        .await
        .clone()
    }
}

/// The domain that the target's sandboxes say is theirs.
async fn own_domain(c: &Context) -> Result<Option<String>, Stop> {
    let body = c
        .create(serde_json::json!({ "timeout": 60 }))
        .await?
        .json()?;
    if let Some(id) = body["sandboxID"].as_str() {
        c.delete(&format!("/sandboxes/{id}")).await?;
    }
    Ok(body["domain"].as_str().map(str::to_owned))
}

fn cell<K: Ord, T>(cells: &Cells<K, T>, key: K) -> Cell<T> {
    let mut cells = cells.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(cells.entry(key).or_default())
}

/// Runs the check that the context names.
///
/// # Errors
/// As its step says; untestable where its SDK cannot be set up.
pub async fn run(c: Context) -> Verdict {
    let (pin, step) = steps::find(c.check())
        .ok_or_else(|| Stop::Harness(format!("`{}` is no SDK check", c.check())))?;
    let played = c.sdk().topic(&c, pin, step.topic).await?;
    judge(&c, pin, step.topic, &step.id(), &played)
}

/// Reads a step's end from what its scenario printed, and keeps the evidence.
fn judge(c: &Context, pin: &Pin, topic: &str, step: &str, played: &Played) -> Verdict {
    let line = played
        .lines
        .iter()
        .find(|line| line.job == 0 && line.step == step);
    c.recorder.played(pin, topic, line, played);
    match line {
        Some(line) => line.verdict(),
        None => Err(played.silent(step)),
    }
}

/// Runs a step of one pin against several servers in one process, for tests of the suite itself.
///
/// # Errors
/// See [`ScenarioError`] and [`SetupError`].
pub async fn batch(
    shared: &Shared,
    pin: &'static Pin,
    jobs: &[Job],
    limit: std::time::Duration,
) -> Result<Played, BatchError> {
    let project = shared.project(pin).await.map_err(BatchError::Setup)?;
    let secrets = crate::redact::Secrets::default();
    Ok(scenario::play(&project, jobs, limit, &secrets).await?)
}

/// Why a batch has no result.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The SDK could not be set up.
    #[error("{0}")]
    Setup(Arc<SetupError>),
    /// The scenario could not be run.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// The line of a step in a batch.
#[must_use]
pub fn line_of<'a>(played: &'a Played, job: usize, step: &str) -> Option<&'a Line> {
    played
        .lines
        .iter()
        .find(|line| line.job == job && line.step == step)
}
