//! The registry of sandboxes, and the one place where steps of the state machine become actions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::expiry::{self, Change};
use super::sandbox::{Sandbox, View};
use super::state::{Action, Event, Reason, Refusal};
use crate::admission::Admission;
use crate::egress::Egress;
use crate::ids::SandboxId;
use crate::machine::{Hypervisor, Machine};
use crate::moment::Moment;
use crate::store::{Store, StoreError};
use crate::telemetry::Telemetry;
use crate::templates::Templates;

/// How long whoever asks for something waits for an operation that is under way (E2B: about a minute).
pub(super) const TRANSITION: Duration = Duration::from_secs(60);

/// Bounds that hold for every sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest life in seconds.
    pub longest_life: u32,
    /// Requests and connections through the proxy at the same time.
    pub connections: usize,
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
    /// What sandboxes are made from.
    pub templates: Arc<Templates>,
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
    pub(super) closed: AtomicBool,
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

    /// A sandbox that clients see, running or paused.
    pub fn known(&self, id: &SandboxId) -> Option<Arc<Sandbox>> {
        self.find(id).filter(|sandbox| sandbox.is_known())
    }

    /// All sandboxes, whatever they are doing.
    pub fn all(&self) -> Vec<Arc<Sandbox>> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.values().cloned().collect()
    }

    /// The sandbox that has this network device.
    pub fn in_slot(&self, slot: u32) -> Option<Arc<Sandbox>> {
        let has = |sandbox: &Arc<Sandbox>| {
            let inner = sandbox.lock();
            inner.tap.as_ref().is_some_and(|tap| tap.slot == slot)
        };
        self.all().into_iter().find(has)
    }

    /// Ends a sandbox on a client's behalf. Resolves when the intent is stored and the signal sent.
    pub async fn kill(self: &Arc<Self>, id: &SandboxId) -> Result<(), Refusal> {
        let sandbox = self.known(id).ok_or(Refusal::Gone)?;
        self.drive(&sandbox, Event::Kill(Reason::Request)).await
    }

    /// Moves a deadline to `seconds` from now.
    pub async fn set_timeout(
        self: &Arc<Self>,
        id: &SandboxId,
        seconds: u32,
    ) -> Result<(), Refusal> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        let event = || Event::SetTimeout(Moment::now(), seconds);
        self.settle(&sandbox, event).await
    }

    /// Moves a deadline to `seconds` from now where that is later, and shows the sandbox.
    pub async fn extend(self: &Arc<Self>, id: &SandboxId, seconds: u32) -> Result<View, Refusal> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        let event = || Event::Extend(Moment::now(), seconds);
        self.settle(&sandbox, event).await?;
        sandbox.view().ok_or(Refusal::Gone)
    }

    /// Ends all sandboxes that run (unless they are to be kept) and closes the network; those that are paused stay.
    /// Creates are refused from now on.
    pub async fn shut_down(self: &Arc<Self>, keep: bool, patience: Duration) {
        self.closed.store(true, Ordering::Release);
        if !keep {
            for sandbox in self.all() {
                let manager = self.clone();
                tokio::spawn(async move { manager.stop(&sandbox).await });
            }
            if tokio::time::timeout(patience, self.emptied())
                .await
                .is_err()
            {
                let left = self.all().iter().filter(|s| !s.at_rest()).count();
                tracing::error!(left, "some sandboxes did not end in time");
            }
        }
        if let Err(error) = self.parts.egress.close(keep).await {
            tracing::error!(%error, "the sandbox network could not be closed");
        }
    }

    async fn stop(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        while self.settle(sandbox, || Event::Stop).await.is_ok() {
            // A resume that could not be stopped any more has made the sandbox run by now.
            if !self.quiet(sandbox).await {
                return;
            }
        }
    }

    /// Returns when all sandboxes are gone or paused.
    async fn emptied(&self) {
        loop {
            let forgotten = self.forgotten.notified();
            tokio::pin!(forgotten);
            forgotten.as_mut().enable();
            if self.all().iter().all(|sandbox| sandbox.at_rest()) {
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

    pub(super) fn remove(&self, id: &SandboxId) {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        self.forgotten.notify_waiters();
    }

    pub(super) fn find(&self, id: &SandboxId) -> Option<Arc<Sandbox>> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.get(id).cloned()
    }

    /// Reports the death of a run's machine whenever it comes.
    pub(super) fn watch(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        machine: &Arc<dyn Machine>,
        run: u32,
    ) {
        let (manager, sandbox, machine) = (self.clone(), sandbox.clone(), machine.clone());
        tokio::spawn(async move {
            machine.exited().await;
            drop(manager.drive(&sandbox, Event::MachineDied(run)));
        });
    }

    /// Takes a step and starts its actions in a task of their own.
    fn begin(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        event: Event,
    ) -> Result<JoinHandle<()>, Refusal> {
        let (actions, stored) = self.step(sandbox, event)?;
        let (manager, sandbox) = (self.clone(), sandbox.clone());
        Ok(tokio::spawn(async move {
            for write in stored {
                if let Err(error) = write.await {
                    tracing::error!(sandbox = %sandbox.id, %error, "a deadline was not stored");
                }
            }
            for action in actions {
                manager.perform(&sandbox, action).await;
            }
        }))
    }

    /// Takes a step, and returns a future of the end of its actions. The step and the actions do not depend on the
    /// future being waited for.
    pub(super) fn drive(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        event: Event,
    ) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let task = self.begin(sandbox, event);
        async move {
            let _ = task?.await;
            Ok(())
        }
    }

    /// Takes a step as soon as no other operation is under way, and waits for the end of its actions.
    async fn settle(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        event: impl Fn() -> Event,
    ) -> Result<(), Refusal> {
        let deadline = Instant::now() + TRANSITION;
        loop {
            match self.begin(sandbox, event()) {
                Ok(task) => {
                    let _ = task.await;
                    return Ok(());
                }
                Err(Refusal::InTransition) if sandbox.quiet(deadline).await => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Begins an operation as soon as no other is under way, and gives its result. `operation` goes on to its end, and
    /// reports its outcome, whether or not the result is waited for.
    pub(super) async fn turn<T: Send + 'static>(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        event: Event,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let deadline = Instant::now() + TRANSITION;
        loop {
            match self.begin(sandbox, event) {
                // No `await` lies between the step and this: once begun, it is carried out.
                Ok(_) => return tokio::spawn(operation).await.map_err(|_| Refusal::Gone),
                Err(Refusal::InTransition) if sandbox.quiet(deadline).await => {}
                Err(refusal) => return Err(refusal),
            }
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
        let operating = inner.life.in_transition();
        let actions = inner.life.step(event)?;
        if inner.life.in_transition() && !operating {
            inner.abort = CancellationToken::new();
        }
        if inner.life.serves() && inner.cut.is_cancelled() {
            inner.cut = CancellationToken::new();
            inner.epoch += 1;
        }
        let mut stored = Vec::new();
        for action in &actions {
            let id = sandbox.id.clone();
            match action {
                Action::Schedule(moment) => {
                    let _ = self.deadlines.send(Change::Set(id.clone(), *moment));
                    stored.push(self.parts.store.set_end(id, *moment));
                }
                Action::Wake(moment) => drop(self.deadlines.send(Change::Set(id, *moment))),
                Action::Unschedule => drop(self.deadlines.send(Change::Remove(id))),
                Action::Cut => inner.cut.cancel(),
                Action::Abort => inner.abort.cancel(),
                Action::Kill(_) | Action::Finish(_) => {
                    // At once, so that nobody is served by a sandbox that is no longer listed.
                    inner.cut.cancel();
                    if let Some(reservation) = &mut inner.reservation {
                        reservation.ending();
                    }
                    let _ = self.deadlines.send(Change::Remove(id));
                }
                Action::Pause { .. } | Action::Forget => {}
            }
        }
        drop(inner);
        sandbox.changed();
        if sandbox.at_rest() {
            self.forgotten.notify_waiters();
        }
        Ok((actions, stored))
    }

    async fn perform(self: &Arc<Self>, sandbox: &Arc<Sandbox>, action: Action) {
        match action {
            Action::Abort
            | Action::Cut
            | Action::Schedule(_)
            | Action::Wake(_)
            | Action::Unschedule => {}
            Action::Pause { memory } => {
                // Its outcome has been reported; nobody waits for the result.
                let _ = self.carry_out_pause(sandbox, memory).await;
            }
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
