//! Going back: the same machine, in the same process, becomes what it was in a snapshot.
//!
//! ```text
//!   snapshot opened, disk layers opened, new overlays made        anything wrong so far: refused, the machine goes on
//!   ── paused, devices taken from their driver: host connections are cut ─────────────── from here on it must succeed ──
//!   memory laid anew ─► CPUs, controllers, clock ─► disks ─► registers and queues ─► new generation id
//! ```
//!
//! What the machine wrote since is gone: own pages are dropped and the overlay's file is replaced. What the guest had told the
//! world by then stays told; connections of host processes are closed, so that nobody waits for an answer out of a future that
//! did not happen.

use super::builder::BuildError;
use super::save::{Base, next_of, same_devices};
use super::shape::Shape;
use super::{Machine, prefetch};
use crate::arch::x86_64::{vcpu_state, vm_state};
use crate::devices::block::BlockError;
use crate::devices::block::overlay::{Fresh, Layer};
use crate::memory::place;
use crate::snapshot::stages::Stopwatch;
use crate::snapshot::{Opened, SnapshotError, layers};
use crate::sync::lock;
use crate::vcpu::VcpuError;

/// Why a machine did not go back.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// Nothing was done.
    #[error(transparent)]
    Refused(BuildError),
    /// The virtual CPUs did not stand still; nothing was done.
    #[error(transparent)]
    Pause(#[from] VcpuError),
    /// The machine is neither what it was nor what it should be, and must end.
    #[error("the machine could not go back and cannot go on: {0}")]
    Lost(BuildError),
}

/// What a disk goes back to.
struct Target {
    layers: Vec<Layer>,
    fresh: Fresh,
    ceiling: u64,
}

impl Machine {
    /// Makes the machine what it was in `opened`. It stands still afterwards.
    ///
    /// # Errors
    /// See [`RollbackError`].
    pub fn roll_back(
        &mut self,
        opened: &Opened,
        watch: &mut Stopwatch,
    ) -> Result<(), RollbackError> {
        let targets = self.check(opened).map_err(RollbackError::Refused)?;
        watch.lap("open");
        let base = Base::of(opened).map_err(BuildError::Lay);
        let base = base.map_err(RollbackError::Refused)?;
        self.pause()?;
        watch.lap("pause");
        self.replace(opened, targets, watch)
            .map_err(RollbackError::Lost)?;
        self.base = Some(base);
        self.recording = None;
        Ok(())
    }

    /// Refuses what cannot work, and opens and makes the files of disks.
    fn check(&self, opened: &Opened) -> Result<Vec<Option<Target>>, BuildError> {
        let saved = &opened.manifest.machine;
        let (here, wanted) = (Shape::of(&self.config), Shape::of(saved));
        if here != wanted {
            return Err(BuildError::OtherShape {
                prepared: Box::new(here),
                wanted: Box::new(wanted),
            });
        }
        opened.check_cpu(&self.cpu)?;
        let board = &opened.state.board;
        if !same_devices(&self.config, saved)
            || board.transports.len() != self.transports.len()
            || board.devices.queues().len() != self.transports.len()
            || board.devices.disks.len() != self.devices.disks.len()
        {
            let other = SnapshotError::Contradiction("it is of a machine with other devices");
            return Err(other.into());
        }
        let mut targets = Vec::with_capacity(self.devices.disks.len());
        let disks = self.devices.disks.iter().zip(opened.disk_layers());
        for ((disk, layers), (config, state)) in
            disks.zip(self.config.disks.iter().zip(&board.devices.disks))
        {
            let mut disk = lock(disk);
            if disk.state().base != state.base || disk.state().size != state.size {
                let id = state.id.clone();
                let other = BlockError::OtherDisk {
                    id,
                    what: "its image",
                };
                return Err(BuildError::Device(other.into()));
            }
            let Some(overlay) = disk.overlay_mut() else {
                targets.push(None);
                continue;
            };
            let refused = |source| BlockError::Overlay {
                path: overlay.path().to_owned(),
                source,
            };
            let identity = overlay.base_identity();
            let layers: Result<Vec<_>, _> = layers
                .iter()
                .map(|path| Layer::open(path, identity, overlay.size()))
                .collect();
            let layers = layers.map_err(|why| BuildError::Device(refused(why).into()))?;
            let next = next_of(overlay.path());
            let _ = std::fs::remove_file(&next);
            let fresh = overlay.make_fresh(&next);
            let fresh = fresh.map_err(|why| BuildError::Device(refused(why).into()))?;
            targets.push(Some(Target {
                layers,
                fresh,
                ceiling: config.ceiling(),
            }));
        }
        Ok(targets)
    }

    fn replace(
        &self,
        opened: &Opened,
        targets: Vec<Option<Target>>,
        watch: &mut Stopwatch,
    ) -> Result<(), BuildError> {
        for transport in &self.transports {
            lock(transport).quiesce();
        }
        watch.lap("quiesce");
        let state = &opened.state;
        place::blank(&self.memory).map_err(BuildError::Lay)?;
        layers::lay(&self.memory, &state.extents, &opened.memory).map_err(BuildError::Lay)?;
        watch.lap("memory");
        for (fd, state) in self.vcpus.still().iter().zip(&state.vcpus) {
            vcpu_state::restore(fd, state)?;
        }
        vm_state::restore(&self.vm, &state.vm)?;
        watch.lap("cpus");
        if let (Some(set), Some(fd)) = (&opened.working_set, self.vcpus.still().first()) {
            prefetch::bring_in(&self.memory, fd, set);
            watch.lap("prefetch");
        }
        for (disk, target) in self.devices.disks.iter().zip(targets) {
            if let (Some(overlay), Some(target)) = (lock(disk).overlay_mut(), target) {
                overlay.go_back(target.layers, target.fresh, target.ceiling);
                let path = overlay.path();
                if let Err(why) = std::fs::rename(next_of(path), path) {
                    tracing::warn!(%why, path = %path.display(), "a new overlay keeps its temporary name");
                }
            }
        }
        lock(&self.serial).restore(&state.board.serial);
        if let (Some(vsock), Some(state)) = (&self.devices.vsock, &state.board.devices.vsock) {
            lock(vsock).owe(state);
        }
        watch.lap("devices");
        self.go_on(opened)?;
        watch.lap("queues");
        Ok(())
    }
}
