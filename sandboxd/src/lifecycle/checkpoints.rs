//! Checkpoints: snapshots to which their own sandbox can go back. They are taken by name, or automatically before every
//! so many commands; they go with their sandbox.
//!
//! ```text
//!   command 1      2      3      4      5          everyCommands 2, keep 2
//!         ▲ auto-1        ▲ auto-2      ▲ auto-3 (auto-1 goes)
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::capture::{CaptureError, Taken};
use super::manager::Manager;
use super::sandbox::{AutoCheckpoint, Sandbox};
use super::state::{Event, Refusal};
use crate::ids::{SandboxId, SnapshotId};
use crate::store::StoreError;
use crate::store::captures::{Kind, SavedCapture};

/// What names of automatic checkpoints begin with.
pub const AUTO: &str = "auto-";

impl Manager {
    /// Takes a checkpoint of a running sandbox, which goes on.
    pub async fn checkpoint(
        self: &Arc<Self>,
        id: &SandboxId,
        name: String,
    ) -> Result<Taken<SavedCapture>, CaptureError> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        let (manager, captured) = (self.clone(), sandbox.clone());
        self.turn(&sandbox, Event::Capture, async move {
            let result = manager.write_checkpoint(&captured, name).await;
            manager.captured(&captured, result).await
        })
        .await?
    }

    async fn write_checkpoint(
        &self,
        sandbox: &Sandbox,
        name: String,
    ) -> Result<Taken<SavedCapture>, CaptureError> {
        // Operations on a sandbox come one after the other: no other checkpoint of this name can come in between.
        let known = self.parts.store.snapshots_of(sandbox.id.clone()).await?;
        if known
            .iter()
            .any(|row| is_checkpoint(row) && row.checkpoint.as_ref() == Some(&name))
        {
            return Err(CaptureError::Exists(name));
        }
        let snapshot = SnapshotId::generate()?;
        let row = SavedCapture {
            checkpoint: Some(name),
            ..SavedCapture::new(snapshot, Kind::Checkpoint, sandbox.id.clone(), true)
        };
        self.write_in_place(sandbox, row).await
    }

    /// The checkpoints of a sandbox, oldest first; `None` when there is no such sandbox.
    pub async fn checkpoints(
        &self,
        id: &SandboxId,
    ) -> Result<Option<Vec<SavedCapture>>, StoreError> {
        if self.known(id).is_none() {
            return Ok(None);
        }
        let mut rows = self.parts.store.snapshots_of(id.clone()).await?;
        rows.retain(is_checkpoint);
        Ok(Some(rows))
    }

    /// Removes a checkpoint; `false` when there is none.
    pub async fn delete_checkpoint(&self, id: &SandboxId, name: &str) -> Result<bool, StoreError> {
        let Some(sandbox) = self.known(id) else {
            return Ok(false);
        };
        let rows = self.checkpoints(id).await?.unwrap_or_default();
        let row = rows
            .into_iter()
            .find(|row| row.checkpoint.as_deref() == Some(name));
        let Some(row) = row else {
            return Ok(false);
        };
        self.parts.store.retire_snapshot(row.id.clone()).await?;
        // A rollback that has found it may still be reading it.
        self.quiet(&sandbox).await;
        self.drop_snapshot(row.id).await;
        Ok(true)
    }

    /// Counts a command that is about to be sent to a sandbox, and takes the checkpoint that is due before it. The command
    /// is not held up when that fails.
    pub async fn before_command(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        let Some(auto) = sandbox.facts.auto_checkpoint else {
            return;
        };
        let number = sandbox.commands.fetch_add(1, Ordering::Relaxed);
        if !number.is_multiple_of(auto.every_commands.max(1)) {
            return;
        }
        let (manager, captured) = (self.clone(), sandbox.clone());
        let taken = self
            .turn(sandbox, Event::Capture, async move {
                let result = manager.write_automatic(&captured, auto).await;
                manager.captured(&captured, result).await
            })
            .await;
        if let Err(error) = taken.map_err(CaptureError::from).flatten() {
            tracing::warn!(sandbox = %sandbox.id, %error, "no automatic checkpoint");
            self.note(&sandbox.id, "checkpoint_failed", &error.to_string());
        }
    }

    async fn write_automatic(
        &self,
        sandbox: &Sandbox,
        auto: AutoCheckpoint,
    ) -> Result<(), CaptureError> {
        let mut rows = self.parts.store.snapshots_of(sandbox.id.clone()).await?;
        rows.retain(is_checkpoint);
        let number = |row: &SavedCapture| row.checkpoint.as_deref().and_then(automatic);
        let next = rows
            .iter()
            .filter_map(number)
            .max()
            .unwrap_or(0)
            .saturating_add(1);
        self.write_checkpoint(sandbox, format!("{AUTO}{next}"))
            .await?;
        let mut former: Vec<_> = rows
            .into_iter()
            .filter(|row| number(row).is_some())
            .collect();
        former.sort_by_key(number);
        let keep = usize::try_from(auto.keep.max(1)).unwrap_or(usize::MAX) - 1;
        former.truncate(former.len().saturating_sub(keep));
        for row in former {
            self.drop_snapshot(row.id).await;
        }
        Ok(())
    }
}

fn is_checkpoint(row: &SavedCapture) -> bool {
    row.kind == Kind::Checkpoint && row.whole
}

/// The number of an automatic checkpoint.
fn automatic(name: &str) -> Option<u32> {
    name.strip_prefix(AUTO)?.parse().ok()
}
