//! Taking a snapshot of a machine, and removing one: the part that pausing, snapshots, forks and checkpoints share.
//!
//! ```text
//!   row (not whole) ─► machine writes ─┬─► the caller says that it is whole
//!                                      └─ failed, or the sandbox was killed meanwhile ─► folder removed ─► row removed
//! ```
//!
//! A capture in place (snapshots, forks, checkpoints) is the operation behind `Capturing`: the sandbox serves on, its
//! processes stand still for a moment.

use std::sync::Arc;

use super::manager::Manager;
use super::sandbox::Sandbox;
use super::state::{Event, Refusal};
use crate::ids::{IdError, SnapshotId};
use crate::machine::{After, SnapshotError, SnapshotOrder, Written};
use crate::moment::Moment;
use crate::store::StoreError;
use crate::store::captures::{Kind, SavedCapture};
use crate::store::sandboxes::SavedPhase;

/// A snapshot that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<T> {
    /// What is known of it.
    pub row: T,
    /// What the machine did for it.
    pub written: Written,
}

/// Why no snapshot was taken.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The sandbox is not in a state for it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No id could be made.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine could not be written down.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// There is a checkpoint of that name.
    #[error("There is a checkpoint `{0}` already.")]
    Exists(String),
    /// The sandbox was killed meanwhile.
    #[error("The sandbox was killed meanwhile.")]
    Aborted,
}

impl CaptureError {
    /// What it means for the machine.
    pub(super) fn outcome(&self) -> Event {
        match self {
            Self::Snapshot(SnapshotError::Lost(_)) => Event::Lost,
            _ => Event::Done(Moment::now()),
        }
    }
}

impl Manager {
    /// Takes a snapshot of a sandbox in place. It is taken even when the caller stops waiting.
    pub(super) async fn capture(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        row: SavedCapture,
    ) -> Result<Taken<SavedCapture>, CaptureError> {
        let (manager, captured) = (self.clone(), sandbox.clone());
        self.turn(sandbox, Event::Capture, async move {
            let result = manager.write_in_place(&captured, row).await;
            manager.captured(&captured, result).await
        })
        .await?
    }

    /// Reports the outcome of an operation behind `Capturing`.
    pub(super) async fn captured<T>(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        result: Result<T, CaptureError>,
    ) -> Result<T, CaptureError> {
        if let Err(error) = self.parts.store.end_work(sandbox.id.clone()).await {
            tracing::error!(sandbox = %sandbox.id, %error, "its row says that a snapshot of it is being taken");
        }
        let outcome = match &result {
            Ok(_) => Event::Done(Moment::now()),
            Err(error) => error.outcome(),
        };
        let _ = self.drive(sandbox, outcome).await;
        result
    }

    /// Takes a snapshot of a machine that goes on.
    pub(super) async fn write_in_place(
        &self,
        sandbox: &Sandbox,
        row: SavedCapture,
    ) -> Result<Taken<SavedCapture>, CaptureError> {
        let store = &self.parts.store;
        store
            .begin_work(sandbox.id.clone(), SavedPhase::Capturing, None)
            .await?;
        let mut taken = self.write_snapshot(sandbox, row, After::GoOn).await?;
        if let Err(error) = store.mark_whole(taken.row.id.clone()).await {
            self.drop_snapshot(taken.row.id).await;
            return Err(error.into());
        }
        taken.row.whole = true;
        Ok(taken)
    }

    /// Takes a snapshot of a sandbox's machine, and gives its row. When it fails, nothing of it is left.
    pub(super) async fn write_snapshot(
        &self,
        sandbox: &Sandbox,
        row: SavedCapture,
        after: After,
    ) -> Result<Taken<SavedCapture>, CaptureError> {
        let id = row.id.clone();
        let order = SnapshotOrder {
            id: id.clone(),
            memory: row.memory,
            after,
            // What a client was promised to find again must be on the disk when it is told so.
            sync: matches!(row.kind, Kind::Pause | Kind::Named),
        };
        let (machine, abort) = {
            let inner = sandbox.lock();
            (inner.machine.clone(), inner.abort.clone())
        };
        let machine = machine.ok_or(CaptureError::Aborted)?;
        let write = async {
            let row = self.parts.store.insert_snapshot(row).await?;
            let written: Result<Written, CaptureError> = tokio::select! {
                biased;
                () = abort.cancelled() => {
                    // Nothing writes to the folder any more once the process is dead.
                    machine.exited().await;
                    Err(CaptureError::Aborted)
                }
                written = machine.snapshot(order) => written.map_err(CaptureError::from),
            };
            let written = written?;
            tracing::info!(sandbox = %sandbox.id, snapshot = %row.id, ?written, "snapshot taken");
            Ok(Taken { row, written })
        };
        let written = write.await;
        if let Err(error) = &written {
            if matches!(error, CaptureError::Snapshot(SnapshotError::Lost(_))) {
                machine.exited().await;
            }
            tracing::warn!(sandbox = %sandbox.id, snapshot = %id, %error, "no snapshot");
            self.drop_snapshot(id).await;
        }
        written
    }

    /// Removes a snapshot and its row. Harmless when there is none.
    pub(super) async fn drop_snapshot(&self, id: SnapshotId) {
        self.parts.hypervisor.discard_snapshot(id.clone()).await;
        if let Err(error) = self.parts.store.remove_snapshot(id.clone()).await {
            tracing::error!(snapshot = %id, %error, "a snapshot's row was left behind");
        }
    }
}
