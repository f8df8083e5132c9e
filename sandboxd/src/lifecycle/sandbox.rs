//! One live sandbox.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_protocol::control::Metrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::state::{Life, Phase, Span};
use crate::admission::Reservation;
use crate::egress::Policy;
use crate::ids::SandboxId;
use crate::machine::Machine;

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
    /// Token of the agent's services; `None` when they are open.
    pub access_token: Option<String>,
    /// Token of all ports but the agent's; `None` when they are public.
    pub traffic_token: Option<String>,
    /// Host that requests to user ports seem to come for.
    pub mask_request_host: Option<String>,
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
    /// Its share of the host.
    pub reservation: Option<Reservation>,
    /// Its network slot.
    pub slot: Option<u32>,
    /// Its network options.
    pub network: Network,
}

/// A sample of resource use.
pub type Sample = Metrics;

/// One live sandbox.
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// What it was created with.
    pub facts: Facts,
    /// Cancelled when its traffic must end.
    pub cut: CancellationToken,
    /// Cancelled when its start must end.
    pub abort: CancellationToken,
    inner: Mutex<Inner>,
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
}

impl Sandbox {
    /// A sandbox with its first state.
    pub fn new(id: SandboxId, facts: Facts, inner: Inner, connection_limit: usize) -> Self {
        Self {
            id,
            facts,
            cut: CancellationToken::new(),
            abort: CancellationToken::new(),
            inner: Mutex::new(inner),
            connections: Arc::new(Semaphore::new(connection_limit)),
            samples: Mutex::default(),
        }
    }

    /// Its changing part.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it looks now; `None` unless it runs.
    pub fn view(&self) -> Option<View> {
        let inner = self.lock();
        match (inner.life.phase(), inner.life.span()) {
            (Phase::Running, Some(span)) => Some(View {
                id: self.id.clone(),
                facts: self.facts.clone(),
                span,
                network: inner.network.clone(),
            }),
            _ => None,
        }
    }

    /// Its machine; `None` unless it runs.
    pub fn machine(&self) -> Option<Arc<dyn Machine>> {
        let inner = self.lock();
        match inner.life.phase() {
            Phase::Running => inner.machine.clone(),
            _ => None,
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
