//! Taking a snapshot of a machine, and removing one: the part that pausing, snapshots, forks and checkpoints share.
//!
//! ```text
//!   row (not whole) ─► machine writes ─┬─► the caller says that it is whole
//!                                      └─ failed, or the sandbox was killed meanwhile ─► folder removed ─► row removed
//! ```

use super::manager::Manager;
use super::sandbox::Sandbox;
use super::state::{Event, Refusal};
use crate::ids::{IdError, SnapshotId};
use crate::machine::{After, SnapshotError, SnapshotOrder, Written};
use crate::moment::Moment;
use crate::store::StoreError;
use crate::store::snapshots::{Kind, SavedCapture};

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
    /// Takes a snapshot of a sandbox's machine. When it fails, nothing of it is left.
    pub(super) async fn write_snapshot(
        &self,
        sandbox: &Sandbox,
        row: SavedCapture,
        after: After,
    ) -> Result<Written, CaptureError> {
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
            self.parts.store.insert_snapshot(row).await?;
            tokio::select! {
                biased;
                () = abort.cancelled() => {
                    // Nothing writes to the folder any more once the process is dead.
                    machine.exited().await;
                    Err(CaptureError::Aborted)
                }
                written = machine.snapshot(order) => Ok(written?),
            }
        };
        let written = write.await;
        match &written {
            Ok(written) => {
                tracing::info!(sandbox = %sandbox.id, snapshot = %id, ?written, "snapshot taken");
            }
            Err(error) => {
                tracing::warn!(sandbox = %sandbox.id, snapshot = %id, %error, "no snapshot");
                self.drop_snapshot(id).await;
            }
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
