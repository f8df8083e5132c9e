//! Snapshots of a machine that serves, and going back to one.
//!
//! ```text
//!   snapshot   freeze ─► pause ─► snapshot ─┬─ GoOn: resume ─► thaw
//!              (user processes stand still) └─ Stop: stays as it is, to be killed
//!
//!   roll_back  rollback (memory, disk and devices become what they were) ─► configure ─► user processes go on
//!
//!   adopt      (an earlier daemon died on the way)  paused? resume ─► thaw
//! ```
//!
//! Ordering rules:
//! 1. User processes are held still *before* the machine is: in whatever goes on from the snapshot they stand until the
//!    agent has been configured, so no user code runs with the clock, the ids or the random numbers of another life.
//! 2. A snapshot that fails leaves the machine as it was: it is let go on before the error is returned. Only a machine
//!    that cannot go on is killed, and said to be lost.

use std::time::{Duration, Instant};

use vmm::control::{ErrorCode, SnapshotArgs, State};
use vmm::snapshot::{Kind, Stages};

use super::control::{Control, ControlError};
use super::microvm::{Microvm, configuration};
use super::{After, Plan, RollbackError, SnapshotError, SnapshotOrder, Written};
use crate::ids::SnapshotId;

impl Microvm {
    pub(super) async fn capture(&self, order: SnapshotOrder) -> Result<Written, SnapshotError> {
        let began = Instant::now();
        // A snapshot that is kept may be booted from, even if it holds memory: its disk must have the guest's files.
        let written_back = order.sync || !order.memory;
        if let Err(error) = self.agent.freeze(written_back).await {
            // It may have been done all the same, and the answer lost.
            let _ = self.agent.thaw().await;
            return Err(SnapshotError::Unresponsive(error));
        }
        let mut stages = vec![("freeze".to_owned(), began.elapsed())];
        let mut control = match self.control().await {
            Ok(control) => control,
            Err(error) => {
                let _ = self.agent.thaw().await;
                return Err(error.into());
            }
        };
        let paused = Instant::now();
        let taken = self.write_down(&mut control, &order).await;
        let written = paused.elapsed();
        stages.push(("snapshot".to_owned(), written));
        if order.after == After::GoOn || taken.is_err() {
            self.go_on(&mut control).await?;
            stages.push(("resume".to_owned(), paused.elapsed() - written));
        }
        Ok(Written {
            bytes: taken?,
            stages,
        })
    }

    async fn write_down(
        &self,
        control: &mut Control,
        order: &SnapshotOrder,
    ) -> Result<u64, ControlError> {
        control.pause().await?;
        let taken = control
            .snapshot(SnapshotArgs {
                dir: self.shared.layout.snapshot(&order.id),
                memory: order.memory,
                kind: Kind::Diff,
                kernel: self.shared.config.kernel.display().to_string(),
                image: String::new(),
                sync: order.sync,
                checksum: order.sync,
                rebase: order.after == After::GoOn,
            })
            .await?;
        tracing::debug!(snapshot = %order.id, stages = ?taken.stages, "written");
        Ok(taken.memory_bytes + taken.disk_bytes)
    }

    /// Lets machine and user processes go on after a snapshot, or ends the machine.
    async fn go_on(&self, control: &mut Control) -> Result<(), SnapshotError> {
        let gone_on = match control.resume().await {
            Ok(()) => self.agent.thaw().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        gone_on.map_err(|error| {
            self.process.kill();
            SnapshotError::Lost(error)
        })
    }

    /// Ends what an earlier daemon may have begun and not brought to its end.
    pub(super) async fn end_capture(
        &self,
        control: &mut Control,
        state: State,
    ) -> Result<(), ControlError> {
        if state == State::Paused {
            control.resume().await?;
        }
        if let Err(error) = self.agent.thaw().await {
            // As when a daemon that is there all the time meets such a guest: the sandbox stays, its calls will tell.
            tracing::warn!(%error, "the guest's agent does not answer");
        }
        Ok(())
    }

    pub(super) async fn go_back(
        &self,
        to: &SnapshotId,
        plan: &Plan,
    ) -> Result<Written, RollbackError> {
        let mut control = self.control().await.map_err(RollbackError::Refused)?;
        let rolled = control.rollback(&self.shared.layout.snapshot(to)).await;
        let restored = rolled.map_err(|error| self.not_back(error))?;
        let began = Instant::now();
        self.agent
            .configure(configuration(plan, &self.shared.config.network))
            .await
            .map_err(|error| self.lost(&error))?;
        let mut stages = named(&restored.stages);
        stages.push(("configure".to_owned(), began.elapsed()));
        Ok(Written { bytes: 0, stages })
    }

    /// Whether a machine that did not go back is still what it was. `restore_failed` does not tell.
    fn not_back(&self, error: ControlError) -> RollbackError {
        match &error {
            ControlError::Refused { error: why, .. } if why.code != ErrorCode::RestoreFailed => {
                RollbackError::Refused(error)
            }
            _ => self.lost(&error),
        }
    }

    fn lost(&self, error: &dyn std::error::Error) -> RollbackError {
        self.process.kill();
        RollbackError::Lost(error.to_string())
    }

    async fn control(&self) -> Result<Control, ControlError> {
        Ok(Control::connect(&self.paths.control).await?)
    }
}

/// Stages of a process in the daemon's form.
fn named(stages: &Stages) -> Vec<(String, Duration)> {
    let each = stages.0.iter();
    each.map(|(name, ns)| (name.clone(), Duration::from_nanos(*ns)))
        .collect()
}
