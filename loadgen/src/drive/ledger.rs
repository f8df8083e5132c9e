//! Every sandbox and snapshot that a run has made, so that none is left whatever happens.
//!
//! A sandbox is noted when its create is answered, and each create carries the run's name in its metadata, so that one whose
//! answer was lost is found by listing. Cleaning lists until nothing of the run is there twice in a row: a create that was given
//! up may still come to be.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::e2b::{CallError, Client};

/// Kills at once.
const KILLS: usize = 16;
/// How long to look for what was still being made.
const SETTLE: Duration = Duration::from_secs(30);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// The ledger of one run. Clones are the same.
#[derive(Debug, Clone)]
pub struct Ledger {
    run: Arc<str>,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    sandboxes: BTreeSet<String>,
    snapshots: BTreeSet<String>,
    made: u64,
}

/// What cleaning came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Sandboxes that it killed.
    pub killed: u64,
    /// Sandboxes and snapshots that would not go, or of which nothing is known.
    pub left: Vec<String>,
    /// Why the server could not be asked what is there.
    pub unsure: Option<String>,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new(run: &str) -> Self {
        Self {
            run: run.into(),
            noted: Arc::default(),
        }
    }

    /// The run's name.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    fn noted<T>(&self, change: impl FnOnce(&mut Noted) -> T) -> T {
        change(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A sandbox was made.
    pub fn made(&self, id: &str) {
        self.noted(|noted| {
            noted.sandboxes.insert(id.to_owned());
            noted.made += 1;
        });
    }

    /// A sandbox is gone.
    pub fn gone(&self, id: &str) {
        self.noted(|noted| noted.sandboxes.remove(id));
    }

    /// A snapshot was made.
    pub fn made_snapshot(&self, id: &str) {
        self.noted(|noted| noted.snapshots.insert(id.to_owned()));
    }

    /// A snapshot is gone.
    pub fn gone_snapshot(&self, id: &str) {
        self.noted(|noted| noted.snapshots.remove(id));
    }

    /// Sandboxes made so far, and those of them that are not known to be gone.
    #[must_use]
    pub fn counts(&self) -> (u64, usize) {
        self.noted(|noted| (noted.made, noted.sandboxes.len()))
    }

    /// Kills all that is noted, and all that carries the run's name.
    pub async fn clean(&self, client: &Client) -> Cleaned {
        let mut cleaned = Cleaned::default();
        let deadline = Instant::now() + SETTLE;
        let mut quiet = 0;
        while quiet < 2 {
            let mut ids = self.noted(|noted| noted.sandboxes.clone());
            match client.list(&self.run).await {
                Ok(listed) => {
                    cleaned.unsure = None;
                    ids.extend(listed.into_iter().map(|listed| listed.id));
                }
                Err(error) => cleaned.unsure = Some(error.to_string()),
            }
            quiet = if ids.is_empty() { quiet + 1 } else { 0 };
            let unreachable = self.kill(client, ids, &mut cleaned).await;
            if unreachable || cleaned.unsure.is_some() || Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let snapshots = self.noted(|noted| noted.snapshots.clone());
        for id in snapshots {
            if client.delete_snapshot(&id).await.is_ok() {
                self.gone_snapshot(&id);
            }
        }
        cleaned.left = self.noted(|noted| {
            let snapshots = noted.snapshots.iter().map(|id| format!("snapshot {id}"));
            noted.sandboxes.iter().cloned().chain(snapshots).collect()
        });
        cleaned
    }

    /// Gives whether the server could not be reached.
    async fn kill(&self, client: &Client, ids: BTreeSet<String>, cleaned: &mut Cleaned) -> bool {
        let mut unreachable = false;
        let mut kills: JoinSet<(String, Result<bool, CallError>)> = JoinSet::new();
        let mut ids = ids.into_iter();
        loop {
            while kills.len() < KILLS
                && !unreachable
                && let Some(id) = ids.next()
            {
                let client = client.clone();
                kills.spawn(async move {
                    let killed = client.kill_by_id(&id).await;
                    (id, killed)
                });
            }
            match kills.join_next().await {
                Some(Ok((id, Ok(was_there)))) => {
                    cleaned.killed += u64::from(was_there);
                    self.gone(&id);
                }
                Some(Ok((id, Err(error)))) => {
                    unreachable |= error.is_unreachable();
                    self.noted(|noted| noted.sandboxes.insert(id));
                }
                Some(Err(_)) => {}
                None => return unreachable,
            }
        }
    }
}
