//! Pausing: a snapshot takes the place of the machine.
//!
//! ```text
//!   Pausing (traffic is cut) ─► row `pausing` ─► snapshot ─┬─► row `paused` ─► machine, network device, share given back ─► Paused
//!                                                          └─ failed ─► row `running` ─► Done: it goes on, with new traffic
//! ```
//!
//! The row `paused` is the point of no return: before it the machine counts, after it the snapshot does.

use std::sync::Arc;

use super::capture::CaptureError;
use super::manager::Manager;
use super::sandbox::{Rest, Sandbox};
use super::state::{Event, Refusal};
use crate::ids::{SandboxId, SnapshotId};
use crate::machine::{After, Written};
use crate::moment::Moment;
use crate::store::captures::{Kind, SavedCapture};
use crate::store::sandboxes::{SavedPhase, SavedSnapshot};

impl Manager {
    /// Pauses a sandbox, with its memory or with its disk alone. It is paused even when the caller stops waiting.
    pub async fn pause(
        self: &Arc<Self>,
        id: &SandboxId,
        memory: bool,
    ) -> Result<Written, CaptureError> {
        let sandbox = self.find(id).ok_or(Refusal::Gone)?;
        let (manager, paused) = (self.clone(), sandbox.clone());
        self.turn(&sandbox, Event::Pause, async move {
            manager.carry_out_pause(&paused, memory).await
        })
        .await?
    }

    /// The operation behind `Pausing`; reports its outcome.
    pub(super) async fn carry_out_pause(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        memory: bool,
    ) -> Result<Written, CaptureError> {
        let (at, written) = match self.pause_to_snapshot(sandbox, memory).await {
            Ok(paused) => paused,
            Err(error) => {
                let outcome = error.outcome();
                if let Err(error) = self.parts.store.end_work(sandbox.id.clone()).await {
                    tracing::error!(sandbox = %sandbox.id, %error, "its row says that it is being paused");
                }
                self.note(&sandbox.id, "pause_failed", &error.to_string());
                let _ = self.drive(sandbox, outcome).await;
                return Err(error);
            }
        };
        self.release_machine(sandbox).await;
        let _ = self.drive(sandbox, Event::Paused(at)).await;
        tracing::info!(sandbox = %sandbox.id, memory, "paused");
        self.note(&sandbox.id, "paused", "The sandbox is paused.");
        Ok(written)
    }

    async fn pause_to_snapshot(
        &self,
        sandbox: &Sandbox,
        memory: bool,
    ) -> Result<(Moment, Written), CaptureError> {
        let store = &self.parts.store;
        let snapshot = SnapshotId::generate()?;
        let saved = SavedSnapshot {
            id: snapshot.clone(),
            memory,
        };
        store
            .begin_work(sandbox.id.clone(), SavedPhase::Pausing, Some(saved))
            .await?;
        let row = SavedCapture::new(snapshot.clone(), Kind::Pause, sandbox.id.clone(), memory);
        let taken = self.write_snapshot(sandbox, row, After::Stop).await?;
        let at = Moment::now();
        store.mark_paused(sandbox.id.clone(), at).await?;
        sandbox.lock().rest = Some(Rest { snapshot, memory });
        Ok((at, taken.written))
    }
}
