//! Rollback: a running sandbox becomes in place what it was at a checkpoint.
//!
//! ```text
//!   RollingBack (traffic is cut, new traffic waits) ─► row `rolling_back` ─► machine goes back ─┬─► row `running` ─► Done
//!                                                                                               ├─ refused ─► as it was ─► Done
//!                                                                                               └─ lost ─► Lost: the sandbox ends
//! ```
//!
//! Id, tokens, environment, network and deadline stay; memory, disk and processes are those of the checkpoint. A daemon
//! that dies on the way is followed by one that goes back again.

use std::sync::Arc;

use super::create::{CreateError, plan};
use super::manager::Manager;
use super::sandbox::Sandbox;
use super::state::{Event, Refusal};
use crate::ids::{SandboxId, SnapshotId};
use crate::machine::{RollbackError as MachineError, Source, Written};
use crate::moment::Moment;
use crate::store::StoreError;
use crate::store::sandboxes::{SavedPhase, SavedSnapshot};

/// Why a sandbox did not go back.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// The sandbox is not in a state for it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such checkpoint.
    #[error("There is no such checkpoint.")]
    NoCheckpoint,
    /// The machine's template is gone.
    #[error(transparent)]
    Template(#[from] CreateError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine did not go back.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The sandbox was killed meanwhile.
    #[error("The sandbox was killed meanwhile.")]
    Aborted,
}

impl Manager {
    /// Takes a running sandbox back to a checkpoint. It goes back even when the caller stops waiting.
    pub async fn roll_back(
        self: &Arc<Self>,
        id: &SandboxId,
        checkpoint: &str,
    ) -> Result<Written, RollbackError> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        // Looked up once more when it is this call's turn; but without one no traffic is cut.
        self.find_checkpoint(id, checkpoint).await?;
        let (manager, rolled, name) = (self.clone(), sandbox.clone(), checkpoint.to_owned());
        self.turn(&sandbox, Event::RollBack, async move {
            let found = manager.find_checkpoint(&rolled.id, &name).await;
            manager.carry_out_rollback(&rolled, found).await
        })
        .await?
    }

    /// Takes a sandbox back to what an earlier daemon was taking it back to.
    pub(super) async fn roll_back_again(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        to: SnapshotId,
    ) -> Result<Written, RollbackError> {
        let (manager, rolled) = (self.clone(), sandbox.clone());
        self.turn(sandbox, Event::RollBack, async move {
            manager.carry_out_rollback(&rolled, Ok(to)).await
        })
        .await?
    }

    async fn find_checkpoint(
        &self,
        id: &SandboxId,
        name: &str,
    ) -> Result<SnapshotId, RollbackError> {
        let rows = self.checkpoints(id).await?.unwrap_or_default();
        let row = rows
            .into_iter()
            .find(|row| row.checkpoint.as_deref() == Some(name));
        Ok(row.ok_or(RollbackError::NoCheckpoint)?.id)
    }

    /// The operation behind `RollingBack`; reports its outcome.
    async fn carry_out_rollback(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        to: Result<SnapshotId, RollbackError>,
    ) -> Result<Written, RollbackError> {
        let result = match to {
            Ok(to) => self.go_back(sandbox, to).await,
            Err(error) => Err(error),
        };
        if let Err(error) = self.parts.store.end_work(sandbox.id.clone()).await {
            tracing::error!(sandbox = %sandbox.id, %error, "its row says that it goes back to a checkpoint");
        }
        let outcome = match &result {
            Err(RollbackError::Machine(MachineError::Lost(_))) => Event::Lost,
            _ => Event::Done(Moment::now()),
        };
        match &result {
            Ok(_) => self.note(
                &sandbox.id,
                "rolled_back",
                "The sandbox went back to a checkpoint.",
            ),
            Err(error) => {
                tracing::warn!(sandbox = %sandbox.id, %error, "not rolled back");
                self.note(&sandbox.id, "rollback_failed", &error.to_string());
            }
        }
        let _ = self.drive(sandbox, outcome).await;
        result
    }

    async fn go_back(&self, sandbox: &Sandbox, to: SnapshotId) -> Result<Written, RollbackError> {
        let target = SavedSnapshot {
            id: to.clone(),
            memory: true,
        };
        let template = self.template_of(&sandbox.facts)?;
        let plan = plan(sandbox, template, Source::Memory(to.clone()));
        self.parts
            .store
            .begin_work(sandbox.id.clone(), SavedPhase::RollingBack, Some(target))
            .await?;
        let (machine, abort) = {
            let inner = sandbox.lock();
            (inner.machine.clone(), inner.abort.clone())
        };
        let machine = machine.ok_or(RollbackError::Aborted)?;
        let written = tokio::select! {
            biased;
            () = abort.cancelled() => {
                machine.exited().await;
                return Err(RollbackError::Aborted);
            }
            rolled = machine.roll_back(to, plan) => rolled?,
        };
        tracing::info!(sandbox = %sandbox.id, ?written, "rolled back");
        Ok(written)
    }
}
