//! One sandbox, live or paused.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_protocol::control::Metrics;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::state::{Life, OnTimeout, Phase, Span};
use crate::admission::Reservation;
use crate::egress::{Policy, Tap};
use crate::ids::{SandboxId, SnapshotId};
use crate::machine::Machine;
use crate::store::facts::Known;

/// Samples of resource use that are kept per sandbox.
const SAMPLES: usize = 240;

/// What a sandbox was created with.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Template id.
    pub template_id: String,
    /// First alias of the template.
    pub alias: Option<String>,
    /// Virtual processors.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Disk in MiB.
    pub disk_mib: u32,
    /// The client's metadata.
    pub metadata: BTreeMap<String, String>,
    /// Global environment.
    pub env: BTreeMap<String, String>,
    /// Token of the agent's services; `None` when they are open.
    pub access_token: Option<String>,
    /// Token of all ports but the agent's; `None` when they are public.
    pub traffic_token: Option<String>,
    /// Host that requests to user ports seem to come for.
    pub mask_request_host: Option<String>,
    /// Whether traffic wakes it when it is paused.
    pub auto_resume: bool,
    /// The snapshot that it was created from.
    pub origin: Option<Origin>,
    /// Its automatic checkpoints.
    pub auto_checkpoint: Option<AutoCheckpoint>,
}

impl Facts {
    /// The template that clients see: the snapshot that it was created from, or its template.
    pub fn shown_template(&self) -> &str {
        let origin = self.origin.as_ref();
        origin.map_or(&self.template_id, |origin| origin.family.as_str())
    }

    /// The alias that clients see.
    pub fn shown_alias(&self) -> Option<&str> {
        match &self.origin {
            Some(origin) => origin.name.as_deref(),
            None => self.alias.as_deref(),
        }
    }
}

/// The snapshot that a sandbox was created from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The build.
    pub snapshot: SnapshotId,
    /// Id of the snapshot as a template.
    pub family: SnapshotId,
    /// Its name.
    pub name: Option<String>,
}

/// When checkpoints are taken without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoCheckpoint {
    /// Before every so many commands, at least 1.
    pub every_commands: u32,
    /// How many are kept, at least 1.
    pub keep: u32,
}

/// Its network options, which can be replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// What it may reach.
    pub policy: Policy,
    /// As the client wrote it.
    pub allow_internet_access: Option<bool>,
    /// As the client wrote it.
    pub wire: Option<serde_json::Value>,
}

/// What changes under the sandbox's lock.
pub struct Inner {
    /// Its life.
    pub life: Life,
    /// Its machine, once it serves.
    pub machine: Option<Arc<dyn Machine>>,
    /// Its share of the host, while it has a machine.
    pub reservation: Option<Reservation>,
    /// Its network device, while it has a machine.
    pub tap: Option<Tap>,
    /// Its network options.
    pub network: Network,
    /// What it goes on from, while it is paused.
    pub rest: Option<Rest>,
    /// Cancelled when its traffic must end; a new one takes its place when there may be traffic again.
    pub cut: CancellationToken,
    /// Which `cut` this is.
    pub epoch: u64,
    /// Cancelled when the operation that is under way must end; a new one for each operation.
    pub abort: CancellationToken,
}

impl Inner {
    /// What is known of a sandbox that has no machine yet.
    pub fn new(life: Life, network: Network) -> Self {
        Self {
            life,
            machine: None,
            reservation: None,
            tap: None,
            network,
            rest: None,
            cut: CancellationToken::new(),
            epoch: 0,
            abort: CancellationToken::new(),
        }
    }
}

/// What a paused sandbox goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Its snapshot.
    pub snapshot: SnapshotId,
    /// Whether that holds memory.
    pub memory: bool,
}

/// The way to a sandbox that serves, for as long as `cut` is not cancelled.
#[derive(Clone)]
pub struct Serving {
    /// Its machine.
    pub machine: Arc<dyn Machine>,
    /// Cancelled when its traffic must end.
    pub cut: CancellationToken,
    /// Differs between all stretches of time in which the sandbox serves.
    pub epoch: u64,
}

/// A sample of resource use.
pub type Sample = Metrics;

/// One sandbox.
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// What it was created with.
    pub facts: Facts,
    /// Commands that were sent to it, for automatic checkpoints.
    pub commands: AtomicU32,
    inner: Mutex<Inner>,
    changed: Notify,
    connections: Arc<Semaphore>,
    samples: Mutex<VecDeque<Sample>>,
}

/// A sandbox at one moment, for the API.
#[derive(Clone, Debug)]
pub struct View {
    /// Its id.
    pub id: SandboxId,
    /// What it was created with.
    pub facts: Facts,
    /// Since when and until when it runs.
    pub span: Span,
    /// Its network options.
    pub network: Network,
    /// What becomes of it when its time is over.
    pub on_timeout: OnTimeout,
    /// How it is paused, if it is.
    pub paused: Option<PauseMode>,
}

/// How a sandbox is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseMode {
    /// With its memory.
    Full,
    /// With its disk alone.
    Filesystem,
}

impl Sandbox {
    /// A sandbox with its first state.
    pub fn new(id: SandboxId, facts: Facts, inner: Inner, connection_limit: usize) -> Self {
        Self {
            id,
            facts,
            commands: AtomicU32::new(0),
            inner: Mutex::new(inner),
            changed: Notify::new(),
            connections: Arc::new(Semaphore::new(connection_limit)),
            samples: Mutex::default(),
        }
    }

    /// Its changing part.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that its life has changed.
    pub fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until no operation is under way; `false` when that took too long.
    pub async fn quiet(&self, deadline: Instant) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listening begins before the life is looked at, so that no change in between is missed.
            changed.as_mut().enable();
            if !self.lock().life.in_transition() {
                return true;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }

    /// Whether nothing of it is left but a snapshot.
    pub fn at_rest(&self) -> bool {
        self.lock().life.phase() == Phase::Paused
    }

    /// Whether clients see it.
    pub fn is_known(&self) -> bool {
        self.lock().life.shown_paused().is_some()
    }

    /// What clients see of it; `None` while it starts and once it ends.
    pub fn view(&self) -> Option<View> {
        let inner = self.lock();
        let paused = inner.life.shown_paused()?;
        let full = inner.rest.as_ref().is_none_or(|rest| rest.memory);
        Some(View {
            id: self.id.clone(),
            facts: self.facts.clone(),
            span: inner.life.span()?,
            network: inner.network.clone(),
            on_timeout: inner.life.limits().on_timeout,
            paused: paused.then_some(if full {
                PauseMode::Full
            } else {
                PauseMode::Filesystem
            }),
        })
    }

    /// The way to it; `None` unless it serves.
    pub fn serving(&self) -> Option<Serving> {
        let inner = self.lock();
        let machine = inner.machine.clone().filter(|_| inner.life.serves())?;
        Some(Serving {
            machine,
            cut: inner.cut.clone(),
            epoch: inner.epoch,
        })
    }

    /// Its machine; `None` unless it serves.
    pub fn machine(&self) -> Option<Arc<dyn Machine>> {
        self.serving().map(|serving| serving.machine)
    }

    /// What the store has to know of it.
    pub fn known(&self) -> Known {
        let inner = self.lock();
        Known {
            facts: self.facts.clone(),
            network: inner.network.clone(),
            timeout: inner.life.limits().timeout,
            on_timeout: inner.life.limits().on_timeout,
        }
    }

    /// A place for one more request or connection through the proxy; `None` when all are taken.
    pub fn admit_connection(&self) -> Option<OwnedSemaphorePermit> {
        self.connections.clone().try_acquire_owned().ok()
    }

    /// Keeps a sample; the oldest gives way.
    pub fn add_sample(&self, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The kept samples, oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().cloned().collect()
    }
}
