//! The end of a machine, and the end of a sandbox.

use std::sync::Arc;

use super::manager::Manager;
use super::sandbox::Sandbox;
use super::state::{Event, Reason};
use crate::store::captures::Kind;

impl Manager {
    /// Releases everything that a sandbox used for its machine, once that is dead.
    pub(super) async fn release_machine(&self, sandbox: &Sandbox) {
        let machine = sandbox.lock().machine.clone();
        if let Some(machine) = machine {
            machine.kill();
            machine.exited().await;
        }
        let tap = sandbox.lock().tap.take();
        if let Some(tap) = tap
            && let Err(error) = self.parts.egress.release(tap.slot).await
        {
            tracing::error!(sandbox = %sandbox.id, slot = tap.slot, %error, "a network slot was not released");
        }
        self.parts.hypervisor.discard(sandbox.id.clone()).await;
        let mut inner = sandbox.lock();
        inner.machine = None;
        inner.reservation = None;
    }

    /// Releases everything that a sandbox used.
    pub(super) async fn finish(self: &Arc<Self>, sandbox: &Arc<Sandbox>, reason: Reason) {
        self.release_machine(sandbox).await;
        self.drop_snapshots_of(sandbox).await;
        self.parts.telemetry.ended(reason);
        self.note(
            &sandbox.id,
            "ended",
            &format!("The sandbox ended: {}.", reason.name()),
        );
        if let Err(error) = self.parts.store.remove_sandbox(sandbox.id.clone()).await {
            tracing::error!(sandbox = %sandbox.id, %error, "a row was left behind");
        }
        tracing::info!(sandbox = %sandbox.id, reason = reason.name(), "ended");
        drop(self.drive(sandbox, Event::Released));
    }

    /// Removes the snapshots that are a sandbox's own.
    async fn drop_snapshots_of(&self, sandbox: &Sandbox) {
        let own = match self.parts.store.snapshots_of(sandbox.id.clone()).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(sandbox = %sandbox.id, %error, "its snapshots are left behind");
                return;
            }
        };
        for row in own {
            if matches!(row.kind, Kind::Pause | Kind::Checkpoint) {
                self.drop_snapshot(row.id).await;
            }
        }
    }
}
