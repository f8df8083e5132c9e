//! The registry of sandboxes, and the one place where steps of the state machine become actions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};

use super::expiry::{self, Change};
use super::sandbox::{Facts, Inner, Network, Sandbox, View};
use super::state::{Action, Event, Life, Reason, Refusal};
use crate::admission::{Admission, Full};
use crate::egress::{Egress, EgressError, Policy};
use crate::ids::{IdError, SandboxId};
use crate::machine::cgroup::PROCESS_OVERHEAD_MIB;
use crate::machine::stages::{Stage, Stages};
use crate::machine::{Hypervisor, Machine, Plan, Source, StartError, Started};
use crate::moment::Moment;
use crate::store::sandboxes::{FactsV1, SavedPolicy};
use crate::store::{Store, StoreError};
use crate::telemetry::Telemetry;
use crate::templates::Template;

/// Bounds that hold for every sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest life in seconds.
    pub longest_life: u32,
    /// Requests and connections through the proxy at the same time.
    pub connections: usize,
}

/// What a sandbox shall be.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Made from this.
    pub template: Arc<Template>,
    /// Seconds to live.
    pub timeout: u32,
    /// The client's metadata.
    pub metadata: std::collections::BTreeMap<String, String>,
    /// Global environment.
    pub env: std::collections::BTreeMap<String, String>,
    /// Whether the agent's services ask for a token.
    pub secure: bool,
    /// Whether the other ports ask for no token.
    pub public: bool,
    /// Host that requests to user ports seem to come for.
    pub mask_request_host: Option<String>,
    /// Network options.
    pub network: Network,
}

/// Why no sandbox was created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The daemon is shutting down.
    #[error("The daemon is shutting down.")]
    ShuttingDown,
    /// There is no room.
    #[error(transparent)]
    Full(#[from] Full),
    /// No id could be made.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network failed.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The machine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Somebody ended the sandbox while it was starting.
    #[error("The sandbox was ended while it was starting.")]
    Aborted,
}

/// Why network options were not replaced.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The sandbox does not run.
    #[error("The sandbox does not run.")]
    NotRunning,
    /// The data plane failed.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A sandbox that was just created.
#[derive(Debug)]
pub struct Created {
    /// The sandbox.
    pub view: View,
    /// How long its start took.
    pub stages: Stages,
}

/// What the manager works with.
pub struct Parts {
    /// Memory of the daemon.
    pub store: Store,
    /// Starts machines.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Sets up networks.
    pub egress: Arc<dyn Egress>,
    /// Keeps the books.
    pub admission: Admission,
    /// Counts.
    pub telemetry: Arc<Telemetry>,
    /// Bounds of every sandbox.
    pub bounds: Bounds,
}

/// The registry of sandboxes.
pub struct Manager {
    pub(super) parts: Parts,
    registry: RwLock<HashMap<SandboxId, Arc<Sandbox>>>,
    deadlines: mpsc::UnboundedSender<Change>,
    closed: AtomicBool,
    forgotten: Notify,
}

impl Manager {
    /// An empty registry, and the task that watches deadlines (it ends with the manager).
    pub fn new(parts: Parts) -> Arc<Self> {
        let (deadlines, changes) = mpsc::unbounded_channel();
        let manager = Arc::new(Self {
            parts,
            registry: RwLock::default(),
            deadlines,
            closed: AtomicBool::new(false),
            forgotten: Notify::new(),
        });
        let weak = Arc::downgrade(&manager);
        tokio::spawn(expiry::run(changes, move |id| {
            if let Some(manager) = weak.upgrade()
                && let Some(sandbox) = manager.find(&id)
            {
                drop(manager.drive(&sandbox, Event::Tick(Moment::now())));
            }
        }));
        manager
    }

    /// The books.
    pub fn admission(&self) -> &Admission {
        &self.parts.admission
    }

    /// The memory of the daemon.
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// The counters.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.parts.telemetry
    }

    /// The bounds of every sandbox.
    pub fn bounds(&self) -> Bounds {
        self.parts.bounds
    }

    /// A sandbox that runs.
    pub fn running(&self, id: &SandboxId) -> Option<Arc<Sandbox>> {
        self.find(id).filter(|sandbox| sandbox.view().is_some())
    }

    /// All sandboxes, whatever they are doing.
    pub fn all(&self) -> Vec<Arc<Sandbox>> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.values().cloned().collect()
    }

    /// Creates a sandbox. When the caller stops waiting, the sandbox is ended, unless it is to be `kept` for a client
    /// that will ask again.
    pub async fn create(
        self: &Arc<Self>,
        id: SandboxId,
        spec: Spec,
        kept: bool,
    ) -> Result<Created, CreateError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CreateError::ShuttingDown);
        }
        let memory = u64::from(spec.template.memory_mib) + PROCESS_OVERHEAD_MIB;
        let mut stages = Stages::default();
        let waiting = Instant::now();
        let reservation = self.parts.admission.reserve(memory).await?;
        stages.add(Stage::Queue, waiting.elapsed());
        let facts = facts(&spec)?;
        let longest = self.parts.bounds.longest_life;
        let sandbox = Arc::new(Sandbox::new(
            id.clone(),
            facts.clone(),
            Inner {
                life: Life::new(spec.timeout, longest),
                machine: None,
                reservation: Some(reservation),
                slot: None,
                network: spec.network.clone(),
            },
            self.parts.bounds.connections,
        ));
        self.add(sandbox.clone());
        // Looked at again now that the sandbox is registered: a shutdown either sees it or is seen here.
        if self.closed.load(Ordering::Acquire) {
            self.remove(&id);
            return Err(CreateError::ShuttingDown);
        }
        let (answer, result) = oneshot::channel();
        // From here on a task owns the start, so that nothing gets lost when the caller goes away.
        let manager = self.clone();
        tokio::spawn(async move {
            let outcome = manager.start(&sandbox, spec, stages).await;
            let served = outcome.is_ok();
            if answer.send(outcome).is_err() && served && !kept {
                drop(manager.drive(&sandbox, Event::Kill(Reason::Abandoned)));
            }
        });
        result.await.unwrap_or(Err(CreateError::Aborted))
    }

    async fn start(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        spec: Spec,
        mut stages: Stages,
    ) -> Result<Created, CreateError> {
        let template_id = spec.template.id.clone();
        let machine = match self.start_machine(sandbox, spec, &mut stages).await {
            Ok(started) => {
                stages.add_all(&started.stages);
                started.machine
            }
            Err(error) => {
                self.parts.telemetry.create_failed();
                drop(self.drive(sandbox, Event::BootFailed));
                return Err(error);
            }
        };
        sandbox.lock().machine = Some(machine.clone());
        let storing = Instant::now();
        let driven = self.drive(sandbox, Event::Booted(Moment::now()));
        self.watch(sandbox, &machine);
        let _ = driven.await;
        let Some(view) = sandbox.view() else {
            return Err(CreateError::Aborted);
        };
        let stored = self
            .parts
            .store
            .mark_running(
                view.id.clone(),
                template_id,
                machine.identity(),
                view.span.started_at,
            )
            .await;
        stages.add(Stage::Store, storing.elapsed());
        if let Err(error) = stored {
            drop(self.drive(sandbox, Event::Kill(Reason::BootFailed)));
            return Err(error.into());
        }
        self.parts.telemetry.created(&stages);
        tracing::info!(sandbox = %view.id, ?stages, "created");
        self.note(&view.id, "created", "The sandbox runs.");
        Ok(Created { view, stages })
    }

    async fn start_machine(
        &self,
        sandbox: &Sandbox,
        spec: Spec,
        stages: &mut Stages,
    ) -> Result<Started, CreateError> {
        let id = sandbox.id.clone();
        let Parts { store, egress, .. } = &self.parts;
        let saved = saved_facts(&sandbox.facts, &spec.network, spec.timeout);
        let storing = Instant::now();
        store.insert_sandbox(id.clone(), saved).await?;
        let stored = Instant::now();
        stages.add(Stage::Store, stored - storing);
        // Not cut short by an abort: a slot must be known here to be released.
        let tap = egress.acquire(spec.network.policy).await?;
        if let Some(tap) = &tap {
            let attached = Instant::now();
            stages.add(Stage::Network, attached - stored);
            sandbox.lock().slot = Some(tap.slot);
            store.set_slot(id.clone(), tap.slot).await?;
            stages.add(Stage::Store, attached.elapsed());
        }
        let plan = Plan {
            id,
            template: spec.template,
            source: Source::Template,
            access_token: sandbox.facts.access_token.clone(),
            env: spec.env,
            tap,
        };
        tokio::select! {
            started = self.parts.hypervisor.start(plan) => Ok(started?),
            () = sandbox.abort.cancelled() => Err(CreateError::Aborted),
        }
    }

    /// Ends a sandbox on a client's behalf. Resolves when the intent is stored and the signal sent.
    pub async fn kill(self: &Arc<Self>, id: &SandboxId) -> Result<(), Refusal> {
        let sandbox = self.running(id).ok_or(Refusal::Gone)?;
        self.drive(&sandbox, Event::Kill(Reason::Request)).await
    }

    /// Moves a deadline to `seconds` from now.
    pub async fn set_timeout(
        self: &Arc<Self>,
        id: &SandboxId,
        seconds: u32,
    ) -> Result<(), Refusal> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        self.drive(&sandbox, Event::SetTimeout(Moment::now(), seconds))
            .await
    }

    /// Moves a deadline to `seconds` from now where that is later, and shows the sandbox.
    pub async fn extend(self: &Arc<Self>, id: &SandboxId, seconds: u32) -> Result<View, Refusal> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        self.drive(&sandbox, Event::Extend(Moment::now(), seconds))
            .await?;
        sandbox.view().ok_or(Refusal::Gone)
    }

    /// Replaces the network options of a sandbox.
    pub async fn set_network(
        &self,
        id: &SandboxId,
        policy: Policy,
        allow_internet_access: Option<bool>,
        wire: serde_json::Value,
    ) -> Result<(), NetworkError> {
        let sandbox = self.running(id).ok_or(NetworkError::NotRunning)?;
        let slot = sandbox.lock().slot;
        if let Some(slot) = slot {
            self.parts.egress.update(slot, policy.clone()).await?;
        }
        let network = Network {
            policy,
            allow_internet_access,
            wire: Some(wire),
        };
        let timeout = {
            let mut inner = sandbox.lock();
            inner.network = network.clone();
            inner.life.timeout()
        };
        let saved = saved_facts(&sandbox.facts, &network, timeout);
        self.parts.store.set_facts(id.clone(), saved).await?;
        Ok(())
    }

    /// Ends all sandboxes (unless they are to be kept) and closes the network. Creates are refused from now on.
    pub async fn shut_down(self: &Arc<Self>, keep: bool, patience: Duration) {
        self.closed.store(true, Ordering::Release);
        if !keep {
            for sandbox in self.all() {
                drop(self.drive(&sandbox, Event::Kill(Reason::Shutdown)));
            }
            if tokio::time::timeout(patience, self.emptied())
                .await
                .is_err()
            {
                tracing::error!(
                    left = self.all().len(),
                    "some sandboxes did not end in time"
                );
            }
        }
        if let Err(error) = self.parts.egress.close(keep).await {
            tracing::error!(%error, "the sandbox network could not be closed");
        }
    }

    async fn emptied(&self) {
        loop {
            let forgotten = self.forgotten.notified();
            tokio::pin!(forgotten);
            forgotten.as_mut().enable();
            if self.all().is_empty() {
                return;
            }
            forgotten.await;
        }
    }

    pub(super) fn add(&self, sandbox: Arc<Sandbox>) {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sandbox.id.clone(), sandbox);
    }

    fn remove(&self, id: &SandboxId) {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        self.forgotten.notify_waiters();
    }

    fn find(&self, id: &SandboxId) -> Option<Arc<Sandbox>> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.get(id).cloned()
    }

    /// Reports the machine's death whenever it comes.
    pub(super) fn watch(self: &Arc<Self>, sandbox: &Arc<Sandbox>, machine: &Arc<dyn Machine>) {
        let (manager, sandbox, machine) = (self.clone(), sandbox.clone(), machine.clone());
        tokio::spawn(async move {
            machine.exited().await;
            drop(manager.drive(&sandbox, Event::MachineDied));
        });
    }

    /// Takes a step, starts its actions in a task of their own, and returns a future of the outcome. The step and the
    /// task do not depend on the future being waited for.
    pub(super) fn drive(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        event: Event,
    ) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let outcome = self.step(sandbox, event);
        let task = outcome.map(|(actions, stored)| {
            let (manager, sandbox) = (self.clone(), sandbox.clone());
            tokio::spawn(async move {
                for write in stored {
                    if let Err(error) = write.await {
                        tracing::error!(sandbox = %sandbox.id, %error, "a deadline was not stored");
                    }
                }
                for action in actions {
                    manager.perform(&sandbox, action).await;
                }
            })
        });
        async move {
            let _ = task?.await;
            Ok(())
        }
    }

    /// The part of a step that happens under the lock: what is to be done, and what is being stored meanwhile.
    #[expect(
        clippy::type_complexity,
        reason = "a future without a name can't be put into a type alias"
    )]
    fn step(
        &self,
        sandbox: &Sandbox,
        event: Event,
    ) -> Result<
        (
            Vec<Action>,
            Vec<impl Future<Output = Result<(), StoreError>> + Send + use<>>,
        ),
        Refusal,
    > {
        let mut inner = sandbox.lock();
        let actions = inner.life.step(event)?;
        let mut stored = Vec::new();
        for action in &actions {
            match action {
                Action::Schedule(moment) => {
                    let id = sandbox.id.clone();
                    let _ = self.deadlines.send(Change::Set(id.clone(), *moment));
                    stored.push(self.parts.store.set_end(id, *moment));
                }
                Action::Kill(_) | Action::Finish(_) => {
                    // At once, so that nobody is served by a sandbox that is no longer listed.
                    sandbox.cut.cancel();
                    if let Some(reservation) = &mut inner.reservation {
                        reservation.ending();
                    }
                    let _ = self.deadlines.send(Change::Remove(sandbox.id.clone()));
                }
                Action::AbortBoot | Action::Forget => {}
            }
        }
        Ok((actions, stored))
    }

    async fn perform(self: &Arc<Self>, sandbox: &Arc<Sandbox>, action: Action) {
        match action {
            Action::AbortBoot => sandbox.abort.cancel(),
            Action::Schedule(_) => {}
            Action::Kill(reason) => {
                if let Err(error) = self.parts.store.mark_stopping(sandbox.id.clone()).await {
                    tracing::error!(sandbox = %sandbox.id, %error, "the intent to end it was not stored");
                }
                let machine = sandbox.lock().machine.clone();
                if let Some(machine) = machine {
                    machine.kill();
                }
                tracing::info!(sandbox = %sandbox.id, reason = reason.name(), "killed");
                drop(self.drive(sandbox, Event::KillSent));
            }
            Action::Finish(reason) => self.finish(sandbox, reason).await,
            Action::Forget => self.remove(&sandbox.id),
        }
    }

    /// Releases everything a sandbox used, once its machine is dead.
    async fn finish(self: &Arc<Self>, sandbox: &Arc<Sandbox>, reason: Reason) {
        let (machine, slot) = {
            let inner = sandbox.lock();
            (inner.machine.clone(), inner.slot)
        };
        if let Some(machine) = machine {
            machine.kill();
            machine.exited().await;
        }
        if let Some(slot) = slot
            && let Err(error) = self.parts.egress.release(slot).await
        {
            tracing::error!(sandbox = %sandbox.id, slot, %error, "a network slot was not released");
        }
        self.parts.hypervisor.discard(sandbox.id.clone()).await;
        self.parts.telemetry.ended(reason);
        self.note(
            &sandbox.id,
            "ended",
            &format!("The sandbox ended: {}.", reason.name()),
        );
        if let Err(error) = self.parts.store.remove_sandbox(sandbox.id.clone()).await {
            tracing::error!(sandbox = %sandbox.id, %error, "a row was left behind");
        }
        sandbox.lock().reservation = None;
        tracing::info!(sandbox = %sandbox.id, reason = reason.name(), "ended");
        drop(self.drive(sandbox, Event::Released));
    }

    /// Records an event without waiting for it.
    pub(super) fn note(&self, id: &SandboxId, name: &str, detail: &str) {
        let event = crate::store::events::Event {
            at: Moment::now(),
            name: name.to_owned(),
            detail: detail.to_owned(),
        };
        let (store, id) = (self.parts.store.clone(), id.clone());
        tokio::spawn(async move {
            if let Err(error) = store.record(id, event).await {
                tracing::warn!(%error, "an event was not recorded");
            }
        });
    }
}

fn facts(spec: &Spec) -> Result<Facts, IdError> {
    let Template {
        id,
        aliases,
        vcpus,
        memory_mib,
        disk_mib,
        ..
    } = &*spec.template;
    Ok(Facts {
        template_id: id.clone(),
        alias: aliases.first().cloned(),
        vcpus: *vcpus,
        memory_mib: *memory_mib,
        disk_mib: *disk_mib,
        metadata: spec.metadata.clone(),
        access_token: spec.secure.then(crate::ids::token).transpose()?,
        traffic_token: (!spec.public).then(crate::ids::token).transpose()?,
        mask_request_host: spec.mask_request_host.clone(),
    })
}

fn saved_facts(facts: &Facts, network: &Network, timeout: u32) -> FactsV1 {
    let Facts {
        template_id,
        alias,
        vcpus,
        memory_mib,
        disk_mib,
        metadata,
        access_token,
        traffic_token,
        mask_request_host,
    } = facts.clone();
    FactsV1 {
        template_id,
        alias,
        vcpus,
        memory_mib,
        disk_mib,
        timeout,
        metadata,
        access_token,
        traffic_token,
        mask_request_host,
        allow_internet_access: network.allow_internet_access,
        network: network.wire.clone(),
        policy: SavedPolicy::of(&network.policy),
    }
}
