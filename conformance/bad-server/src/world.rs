//! All state: sandboxes with their files and processes. Expiry is judged when something is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::watch;

use crate::agent::process::Process;
use crate::agent::watch::Watch;
use crate::api::logs::Entry;
use crate::faults::FAULTS;
use crate::guest::Guest;
use crate::image::Snapshot;
use crate::interpreter::Interpreter;
use crate::life::{self, Life};
use crate::service::Service;
use crate::templates::Templates;
use crate::tree::Tree;
use crate::volumes::{Secret, Volume};

/// A lock that a panic elsewhere does not spoil.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server's state.
pub struct World {
    fault: Option<&'static str>,
    serial: AtomicU64,
    /// Living sandboxes by id.
    pub sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
    /// Snapshots, oldest first.
    pub snapshots: Mutex<Vec<Arc<Snapshot>>>,
    /// Variables of all contexts; only a fault writes here.
    pub leaked_variables: Mutex<BTreeMap<String, Value>>,
    /// Idempotency keys whose create is under way.
    pub under_way: Mutex<BTreeSet<String>>,
    /// Idempotency keys: the request's body and the answer's.
    pub keys: Mutex<BTreeMap<String, (Value, Value)>>,
    /// Templates and their builds.
    pub templates: Mutex<Templates>,
    /// Volumes by id.
    pub volumes: Mutex<BTreeMap<String, Volume>>,
    /// Secrets by id.
    pub secrets: Mutex<BTreeMap<String, Secret>>,
}

impl World {
    pub fn new(fault: Option<&'static str>) -> Self {
        Self {
            fault,
            serial: AtomicU64::new(1),
            sandboxes: Mutex::default(),
            snapshots: Mutex::default(),
            leaked_variables: Mutex::default(),
            under_way: Mutex::default(),
            keys: Mutex::default(),
            templates: Mutex::new(Templates::new()),
            volumes: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// Whether it has this fault. One that is not in the catalogue is a mistake in this crate.
    pub fn on(&self, fault: &str) -> bool {
        assert!(
            FAULTS.contains(&fault),
            "`{fault}` is missing in the catalogue"
        );
        self.fault == Some(fault)
    }

    /// A word of letters and digits that was not given before.
    pub fn word(&self, prefix: &str, length: usize) -> String {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut state = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03;
        let mut word = prefix.to_owned();
        for _ in 0..length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let index = usize::try_from(state % 36).unwrap_or(0);
            word.push(char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[index]));
        }
        word
    }

    /// A living sandbox. Ids of old clients end in `-clientid`.
    pub fn find(&self, id: &str) -> Option<Arc<Sandbox>> {
        let id = if self.on("suffix-not-stripped") {
            id
        } else {
            id.split('-').next().unwrap_or(id)
        };
        let mut all = lock(&self.sandboxes);
        let sandbox = Arc::clone(all.get(id)?);
        let over = Timestamp::now() > *lock(&sandbox.end) && !sandbox.life.waits(self);
        if over && let Some(memory) = sandbox.life.at_end(self) {
            life::pause(self, &sandbox, memory);
        } else if over && !self.on("never-expires") {
            all.remove(id);
            sandbox.die();
            return None;
        }
        Some(sandbox)
    }

    /// All living sandboxes.
    pub fn living(&self) -> Vec<Arc<Sandbox>> {
        let ids: Vec<String> = lock(&self.sandboxes).keys().cloned().collect();
        ids.iter().filter_map(|id| self.find(id)).collect()
    }
}

/// One sandbox.
pub struct Sandbox {
    pub id: String,
    pub template: String,
    pub token: Option<String>,
    pub traffic_token: Option<String>,
    pub mask_host: Option<String>,
    pub metadata: Value,
    pub envs: BTreeMap<String, String>,
    pub started: Timestamp,
    pub end: Mutex<Timestamp>,
    pub life: Life,
    pub tree: Arc<Mutex<Tree>>,
    pub logs: Mutex<Vec<Entry>>,
    pub processes: Mutex<BTreeMap<u32, Arc<Process>>>,
    /// End events of processes that are over.
    pub ended: Mutex<BTreeMap<u32, Value>>,
    pub services: Mutex<BTreeMap<u16, Arc<Service>>>,
    pub watchers: Mutex<BTreeMap<String, Watch>>,
    pub interpreter: Interpreter,
    /// What an earlier command left in the environment; only a fault writes here.
    pub leaked: Mutex<BTreeMap<String, String>>,
    /// The machine as programs in it see it.
    pub guest: Guest,
    dead: watch::Sender<bool>,
    next_pid: AtomicU32,
}

/// What a create decides of a sandbox.
pub struct Plan {
    pub id: String,
    pub template: String,
    pub token: Option<String>,
    pub traffic_token: Option<String>,
    pub mask_host: Option<String>,
    pub metadata: Value,
    pub envs: BTreeMap<String, String>,
    pub timeout: i64,
    pub life: Life,
    pub tree: Arc<Mutex<Tree>>,
}

impl Sandbox {
    pub fn new(plan: Plan) -> Self {
        let now = Timestamp::now();
        Self {
            guest: Guest::new(&plan.id),
            id: plan.id,
            template: plan.template,
            token: plan.token,
            traffic_token: plan.traffic_token,
            mask_host: plan.mask_host,
            metadata: plan.metadata,
            envs: plan.envs,
            started: now,
            end: Mutex::new(after(now, plan.timeout)),
            life: plan.life,
            tree: plan.tree,
            logs: Mutex::default(),
            processes: Mutex::default(),
            ended: Mutex::default(),
            services: Mutex::default(),
            watchers: Mutex::default(),
            interpreter: Interpreter::default(),
            leaked: Mutex::default(),
            dead: watch::Sender::new(false),
            next_pid: AtomicU32::new(500),
        }
    }

    /// Writes an entry of the log.
    pub fn log(&self, level: &'static str, message: &str) {
        lock(&self.logs).push(Entry {
            at: Timestamp::now(),
            level,
            message: message.to_owned(),
        });
    }

    pub fn pid(&self) -> u32 {
        self.next_pid.fetch_add(1, Ordering::Relaxed)
    }

    /// Cuts all streams.
    pub fn die(&self) {
        self.dead.send_replace(true);
    }

    /// Returns when the sandbox is dead.
    pub async fn death(&self) {
        let mut dead = self.dead.subscribe();
        let _ = dead.wait_for(|dead| *dead).await;
    }
}

/// So many seconds later; times out of range are the far future.
pub fn after(from: Timestamp, seconds: i64) -> Timestamp {
    from.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}
