//! Creating a sandbox: from a template, or from a snapshot.
//!
//! ```text
//!   reserve ─► register (Creating) ─► row `creating` ─► network device ─► machine ─► row `running` ─► Booted
//! ```
//!
//! A task of its own owns everything behind the registration, so that nothing gets lost when the caller goes away. The row
//! is written before the outcome is reported: from then on the next operation may begin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::oneshot;

use super::manager::{Manager, Parts};
use super::sandbox::{AutoCheckpoint, Facts, Inner, Network, Origin, Sandbox, View};
use super::state::{Event, Life, Limits, OnTimeout, Reason};
use crate::admission::Full;
use crate::egress::EgressError;
use crate::ids::{IdError, SandboxId};
use crate::machine::cgroup::PROCESS_OVERHEAD_MIB;
use crate::machine::stages::{Stage, Stages};
use crate::machine::{Machine, Plan, Source, StartError};
use crate::moment::Moment;
use crate::store::StoreError;
use crate::templates::Template;

/// What a sandbox shall be.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Made from this.
    pub template: Arc<Template>,
    /// What its contents are to be.
    pub source: Source,
    /// The snapshot behind `source`, where clients know it.
    pub origin: Option<Origin>,
    /// Seconds to live.
    pub timeout: u32,
    /// What becomes of it when its time is over.
    pub on_timeout: OnTimeout,
    /// Whether traffic wakes it.
    pub auto_resume: bool,
    /// Its automatic checkpoints.
    pub auto_checkpoint: Option<AutoCheckpoint>,
    /// The client's metadata.
    pub metadata: BTreeMap<String, String>,
    /// Global environment.
    pub env: BTreeMap<String, String>,
    /// Whether the agent's services ask for a token.
    pub secure: bool,
    /// Whether the other ports ask for no token.
    pub public: bool,
    /// Host that requests to user ports seem to come for.
    pub mask_request_host: Option<String>,
    /// Network options.
    pub network: Network,
}

/// Why no sandbox was created, or none resumed.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The daemon is shutting down.
    #[error("The daemon is shutting down.")]
    ShuttingDown,
    /// There is no room.
    #[error(transparent)]
    Full(#[from] Full),
    /// The template is not there any more.
    #[error("The template `{0}` is not there any more.")]
    NoTemplate(String),
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

/// A sandbox that was just created, or resumed.
#[derive(Debug)]
pub struct Created {
    /// The sandbox.
    pub view: View,
    /// How long its start took.
    pub stages: Stages,
}

impl Spec {
    fn facts(&self) -> Result<Facts, IdError> {
        let Template {
            id,
            aliases,
            vcpus,
            memory_mib,
            disk_mib,
            ..
        } = &*self.template;
        Ok(Facts {
            template_id: id.clone(),
            alias: aliases.first().cloned(),
            vcpus: *vcpus,
            memory_mib: *memory_mib,
            disk_mib: *disk_mib,
            metadata: self.metadata.clone(),
            env: self.env.clone(),
            access_token: self.secure.then(crate::ids::token).transpose()?,
            traffic_token: (!self.public).then(crate::ids::token).transpose()?,
            mask_request_host: self.mask_request_host.clone(),
            auto_resume: self.auto_resume,
            origin: self.origin.clone(),
            auto_checkpoint: self.auto_checkpoint,
        })
    }
}

/// What a sandbox of this size takes of the host, in MiB.
pub(super) fn share(memory_mib: u32) -> u64 {
    u64::from(memory_mib) + PROCESS_OVERHEAD_MIB
}

impl Manager {
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
        let memory = share(spec.template.memory_mib);
        let mut stages = Stages::default();
        let waiting = Instant::now();
        let reservation = self.parts.admission.reserve(memory).await?;
        stages.add(Stage::Queue, waiting.elapsed());
        let limits = Limits {
            timeout: spec.timeout,
            longest: self.parts.bounds.longest_life,
            on_timeout: spec.on_timeout,
        };
        let mut inner = Inner::new(Life::new(limits), spec.network.clone());
        inner.reservation = Some(reservation);
        let sandbox = Arc::new(Sandbox::new(
            id.clone(),
            spec.facts()?,
            inner,
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
        let (machine, now) = match self.start_new(sandbox, spec, &mut stages).await {
            Ok(started) => started,
            Err(error) => {
                self.parts.telemetry.create_failed();
                drop(self.drive(sandbox, Event::BootFailed));
                return Err(error);
            }
        };
        let storing = Instant::now();
        let view = self.serves(sandbox, &machine, now).await;
        stages.add(Stage::Store, storing.elapsed());
        let view = view.ok_or(CreateError::Aborted)?;
        self.parts.telemetry.created(&stages);
        tracing::info!(sandbox = %view.id, ?stages, "created");
        self.note(&view.id, "created", "The sandbox runs.");
        Ok(Created { view, stages })
    }

    async fn start_new(
        &self,
        sandbox: &Sandbox,
        spec: Spec,
        stages: &mut Stages,
    ) -> Result<(Arc<dyn Machine>, Moment), CreateError> {
        let (id, store) = (&sandbox.id, &self.parts.store);
        let template_id = spec.template.id.clone();
        let storing = Instant::now();
        store.insert_sandbox(id.clone(), &sandbox.known()).await?;
        stages.add(Stage::Store, storing.elapsed());
        let machine = self
            .launch(sandbox, spec.template, spec.source, stages)
            .await?;
        let (now, storing) = (Moment::now(), Instant::now());
        sandbox.lock().machine = Some(machine.clone());
        store
            .mark_running(id.clone(), template_id, machine.identity(), now)
            .await?;
        stages.add(Stage::Store, storing.elapsed());
        Ok((machine, now))
    }

    /// Reports that the machine of an operation serves, and shows the sandbox unless it was killed meanwhile.
    pub(super) async fn serves(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        machine: &Arc<dyn Machine>,
        now: Moment,
    ) -> Option<View> {
        let run = sandbox.lock().life.run() + 1;
        let driven = self.drive(sandbox, Event::Booted(now));
        self.watch(sandbox, machine, run);
        let _ = driven.await;
        sandbox.view()
    }

    /// Starts a machine for a sandbox that has a row and a share. What it used stays in the sandbox when it fails.
    pub(super) async fn launch(
        &self,
        sandbox: &Sandbox,
        template: Arc<Template>,
        source: Source,
        stages: &mut Stages,
    ) -> Result<Arc<dyn Machine>, CreateError> {
        let Parts { store, egress, .. } = &self.parts;
        let (policy, abort) = {
            let inner = sandbox.lock();
            (inner.network.policy.clone(), inner.abort.clone())
        };
        // Not cut short by an abort: a slot must be known here to be released.
        let acquiring = Instant::now();
        let tap = egress.acquire(policy).await?;
        if let Some(tap) = &tap {
            let acquired = Instant::now();
            stages.add(Stage::Network, acquired - acquiring);
            sandbox.lock().tap = Some(tap.clone());
            store.set_slot(sandbox.id.clone(), tap.slot).await?;
            stages.add(Stage::Store, acquired.elapsed());
        }
        let plan = plan(sandbox, template, source);
        let started = tokio::select! {
            started = self.parts.hypervisor.start(plan) => started?,
            () = abort.cancelled() => return Err(CreateError::Aborted),
        };
        stages.add_all(&started.stages);
        Ok(started.machine)
    }

    /// The template of a sandbox, in the size that the sandbox has.
    pub(super) fn template_of(&self, facts: &Facts) -> Result<Arc<Template>, CreateError> {
        let found = self.parts.templates.by_id(&facts.template_id);
        let found = found.ok_or_else(|| CreateError::NoTemplate(facts.template_id.clone()))?;
        Ok(Arc::new(Template {
            vcpus: facts.vcpus,
            memory_mib: facts.memory_mib,
            disk_mib: facts.disk_mib,
            ..(*found).clone()
        }))
    }
}

/// What the machine of a sandbox is to be.
pub(super) fn plan(sandbox: &Sandbox, template: Arc<Template>, source: Source) -> Plan {
    Plan {
        id: sandbox.id.clone(),
        template,
        source,
        access_token: sandbox.facts.access_token.clone(),
        env: sandbox.facts.env.clone(),
        tap: sandbox.lock().tap.clone(),
    }
}
