//! Resuming: a machine takes the place of the snapshot.
//!
//! ```text
//!   Resuming ─► share of the host ─► row `resuming` ─► network device ─► machine ─┬─► row `running` ─► Booted ─► snapshot removed
//!                                                                                 └─ failed ─► all given back ─► row `paused`
//! ```
//!
//! Until the machine serves, the snapshot is there: a resume that fails leaves the sandbox paused.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::create::{CreateError, Created, share};
use super::manager::{Manager, TRANSITION};
use super::sandbox::{Rest, Sandbox, View};
use super::state::{Event, Refusal};
use crate::ids::SandboxId;
use crate::machine::stages::{Stage, Stages};
use crate::machine::{Machine, Source};
use crate::moment::Moment;

/// Least seconds that a sandbox lives when traffic woke it.
const LEAST_WOKEN: u32 = 300;

/// Why a sandbox was not resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The sandbox is not in a state for it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its machine did not start; the sandbox is still paused.
    #[error(transparent)]
    Failed(#[from] CreateError),
}

/// A sandbox that a client is connected to.
#[derive(Debug)]
pub enum Connected {
    /// It ran.
    Running(Box<View>),
    /// It was paused and was resumed.
    Resumed(Box<Created>),
}

impl Manager {
    /// Extends the life of a sandbox that runs, resumes one that is paused; `memory` false boots it from its disk then.
    pub async fn connect(
        self: &Arc<Self>,
        id: &SandboxId,
        seconds: u32,
        memory: bool,
    ) -> Result<Connected, ResumeError> {
        loop {
            match self.extend(id, seconds).await {
                Ok(view) => return Ok(Connected::Running(Box::new(view))),
                Err(Refusal::Paused) => {}
                Err(refusal) => return Err(refusal.into()),
            }
            match self.resume(id, seconds, memory).await {
                Ok(created) => return Ok(Connected::Resumed(Box::new(created))),
                // Somebody else has resumed it in between.
                Err(ResumeError::Refused(Refusal::Running)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Resumes a paused sandbox. It is resumed even when the caller stops waiting.
    pub async fn resume(
        self: &Arc<Self>,
        id: &SandboxId,
        seconds: u32,
        memory: bool,
    ) -> Result<Created, ResumeError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CreateError::ShuttingDown.into());
        }
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        let (manager, resumed) = (self.clone(), sandbox.clone());
        let outcome = self
            .turn(&sandbox, Event::Resume(seconds), async move {
                manager.carry_out_resume(&resumed, seconds, memory).await
            })
            .await?;
        Ok(outcome?)
    }

    /// Resumes a paused sandbox because of traffic, unless it is being resumed already; returns when it runs.
    pub async fn wake(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), ResumeError> {
        let timeout = sandbox.lock().life.limits().timeout.max(LEAST_WOKEN);
        let seconds = timeout.min(self.parts.bounds.longest_life);
        match self.resume(&sandbox.id, seconds, true).await {
            Ok(_) | Err(ResumeError::Refused(Refusal::Running)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The operation behind `Resuming`; reports its outcome.
    async fn carry_out_resume(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        seconds: u32,
        memory: bool,
    ) -> Result<Created, CreateError> {
        let mut stages = Stages::default();
        let started = self
            .start_again(sandbox, seconds, memory, &mut stages)
            .await;
        let (machine, now) = match started {
            Ok(started) => started,
            Err(error) => {
                self.release_machine(sandbox).await;
                if let Err(error) = self.parts.store.back_to_paused(sandbox.id.clone()).await {
                    tracing::error!(sandbox = %sandbox.id, %error, "its row says that it is being resumed");
                }
                tracing::warn!(sandbox = %sandbox.id, %error, "not resumed");
                let _ = self.drive(sandbox, Event::BootFailed).await;
                return Err(error);
            }
        };
        // Taken while the sandbox is this operation's alone: the next pause leaves one of its own.
        let rest = sandbox.lock().rest.take();
        let view = self.serves(sandbox, &machine, now).await;
        if let Some(rest) = rest {
            // The machine has everything mapped that it needs of it.
            self.drop_snapshot(rest.snapshot).await;
        }
        let view = view.ok_or(CreateError::Aborted)?;
        self.parts.telemetry.created(&stages);
        tracing::info!(sandbox = %view.id, ?stages, "resumed");
        self.note(&view.id, "resumed", "The sandbox runs again.");
        Ok(Created { view, stages })
    }

    async fn start_again(
        &self,
        sandbox: &Sandbox,
        seconds: u32,
        memory: bool,
        stages: &mut Stages,
    ) -> Result<(Arc<dyn Machine>, Moment), CreateError> {
        let rest = sandbox.lock().rest.clone();
        let Rest {
            snapshot,
            memory: held,
        } = rest.ok_or(CreateError::Aborted)?;
        let source = if held && memory {
            Source::Memory(snapshot)
        } else {
            Source::Disk(snapshot)
        };
        let template = self.template_of(&sandbox.facts)?;
        let waiting = Instant::now();
        let reservation = self
            .parts
            .admission
            .reserve(share(template.memory_mib))
            .await?;
        stages.add(Stage::Queue, waiting.elapsed());
        let end_of = {
            let mut inner = sandbox.lock();
            inner.reservation = Some(reservation);
            inner.life.clone()
        };
        let store = &self.parts.store;
        let storing = Instant::now();
        store.begin_resume(sandbox.id.clone()).await?;
        stages.add(Stage::Store, storing.elapsed());
        let machine = self.launch(sandbox, template, source, stages).await?;
        sandbox.lock().machine = Some(machine.clone());
        if self.closed.load(Ordering::Acquire) {
            return Err(CreateError::ShuttingDown);
        }
        let now = Moment::now();
        let (identity, end_at) = (machine.identity(), end_of.end_of(now, seconds));
        let storing = Instant::now();
        store
            .mark_resumed(sandbox.id.clone(), identity, now, end_at)
            .await?;
        stages.add(Stage::Store, storing.elapsed());
        Ok((machine, now))
    }

    /// Waits until no operation on the sandbox is under way, or for too long.
    pub async fn quiet(&self, sandbox: &Sandbox) -> bool {
        sandbox.quiet(Instant::now() + TRANSITION).await
    }
}
