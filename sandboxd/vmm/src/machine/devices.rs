//! The virtio devices of a machine, each with its own type where a snapshot needs it, and in the order of the bus.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::config::MachineConfig;
use crate::devices::balloon::{Balloon, BalloonState};
use crate::devices::block::{Block, BlockError, BlockState};
use crate::devices::net::{Net, NetError, NetState};
use crate::devices::rng::{Rng, RngState};
use crate::devices::virtio::queue_state::QueueState;
use crate::devices::virtio::{GuestMemory, VirtioDevice};
use crate::devices::vsock::{Vsock, VsockError, VsockState};
use crate::snapshot::{SnapshotError, layers_of_disk};
use crate::sync::lock;

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A disk.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The socket to the guest.
    #[error(transparent)]
    Vsock(#[from] VsockError),
    /// The network card.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The entropy source or the balloon.
    #[error("the {0} device cannot be made: {1}")]
    Host(&'static str, io::Error),
    /// The snapshot that a disk begins from.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The snapshot holds other devices than its configuration.
    #[error("the snapshot's devices and its configuration contradict each other")]
    Contradiction,
}

/// The virtio devices.
#[derive(Default)]
pub struct Devices {
    /// Disks, in the order the guest sees them.
    pub disks: Vec<Arc<Mutex<Block>>>,
    /// The socket.
    pub vsock: Option<Arc<Mutex<Vsock>>>,
    /// The network card.
    pub net: Option<Arc<Mutex<Net>>>,
    /// The entropy source.
    pub rng: Option<Arc<Mutex<Rng>>>,
    /// The balloon.
    pub balloon: Option<Arc<Mutex<Balloon>>>,
}

/// The virtio devices as they stand in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicesState {
    /// Disks, in the order the guest sees them.
    pub disks: Vec<BlockState>,
    /// The socket.
    pub vsock: Option<VsockState>,
    /// The network card.
    pub net: Option<NetState>,
    /// The entropy source.
    pub rng: Option<RngState>,
    /// The balloon.
    pub balloon: Option<BalloonState>,
}

fn share<D>(device: D) -> Arc<Mutex<D>> {
    Arc::new(Mutex::new(device))
}

impl Devices {
    /// Makes the devices of `config` for a guest that has not seen them.
    ///
    /// # Errors
    /// The first that could not be made.
    pub fn create(config: &MachineConfig, memory: &Arc<GuestMemory>) -> Result<Self, DeviceError> {
        let mut devices = Self::default();
        for disk in &config.disks {
            let layers = match &disk.snapshot {
                Some(dir) => layers_of_disk(dir, &disk.id)?,
                None => Vec::new(),
            };
            let block = Block::open_over(disk, &layers, disk.ceiling())?;
            devices.disks.push(share(block));
        }
        devices.vsock = config
            .vsock
            .as_ref()
            .map(Vsock::new)
            .transpose()?
            .map(share);
        devices.net = config.net.as_ref().map(Net::open).transpose()?.map(share);
        if config.rng {
            let rng = Rng::new().map_err(|why| DeviceError::Host("entropy", why))?;
            devices.rng = Some(share(rng));
        }
        if config.balloon {
            let balloon = Balloon::new(Arc::clone(memory));
            let balloon = balloon.map_err(|why| DeviceError::Host("balloon", why))?;
            devices.balloon = Some(share(balloon));
        }
        Ok(devices)
    }

    /// Makes the devices of `config` as they stand in `state`; `layers` are the frozen layers of each disk.
    ///
    /// # Errors
    /// The first that could not be made, or is not what was saved.
    pub fn restore(
        config: &MachineConfig,
        state: &DevicesState,
        layers: &[Vec<PathBuf>],
        memory: &Arc<GuestMemory>,
    ) -> Result<Self, DeviceError> {
        let mut devices = Self::default();
        if config.disks.len() != state.disks.len() || config.disks.len() != layers.len() {
            return Err(DeviceError::Contradiction);
        }
        for ((disk, state), layers) in config.disks.iter().zip(&state.disks).zip(layers) {
            let block = Block::from_state(disk, layers, disk.ceiling(), state)?;
            devices.disks.push(share(block));
        }
        devices.vsock = match (&config.vsock, &state.vsock) {
            (None, None) => None,
            (Some(config), Some(state)) => Some(share(Vsock::from_state(config, state)?)),
            _ => return Err(DeviceError::Contradiction),
        };
        devices.net = match (&config.net, &state.net) {
            (None, None) => None,
            (Some(config), Some(state)) => Some(share(Net::from_state(config, state)?)),
            _ => return Err(DeviceError::Contradiction),
        };
        devices.rng = match (config.rng, &state.rng) {
            (false, None) => None,
            (true, Some(state)) => {
                let rng = Rng::from_state(state);
                Some(share(rng.map_err(|why| DeviceError::Host("entropy", why))?))
            }
            _ => return Err(DeviceError::Contradiction),
        };
        devices.balloon = match (config.balloon, &state.balloon) {
            (false, None) => None,
            (true, Some(state)) => {
                let balloon = Balloon::from_state(state, Arc::clone(memory));
                let balloon = balloon.map_err(|why| DeviceError::Host("balloon", why))?;
                Some(share(balloon))
            }
            _ => return Err(DeviceError::Contradiction),
        };
        Ok(devices)
    }

    /// All devices in the order of the bus, with their names in statistics.
    pub fn all(&self) -> Vec<(String, Arc<Mutex<dyn VirtioDevice>>)> {
        let mut all: Vec<(String, Arc<Mutex<dyn VirtioDevice>>)> = Vec::new();
        for disk in &self.disks {
            let name = format!("disk-{}", lock(disk).id());
            all.push((name, Arc::<Mutex<Block>>::clone(disk)));
        }
        if let Some(vsock) = &self.vsock {
            all.push(("vsock".into(), Arc::<Mutex<Vsock>>::clone(vsock)));
        }
        if let Some(net) = &self.net {
            all.push(("net".into(), Arc::<Mutex<Net>>::clone(net)));
        }
        if let Some(rng) = &self.rng {
            all.push(("rng".into(), Arc::<Mutex<Rng>>::clone(rng)));
        }
        if let Some(balloon) = &self.balloon {
            all.push(("balloon".into(), Arc::<Mutex<Balloon>>::clone(balloon)));
        }
        all
    }
}

impl DevicesState {
    /// Positions of the queues of every device in the order of the bus; None for one that no driver uses.
    pub fn queues(&self) -> Vec<Option<Vec<QueueState>>> {
        let one = |queue: &Option<QueueState>| queue.map(|queue| vec![queue]);
        let mut all: Vec<_> = self.disks.iter().map(|disk| one(&disk.queue)).collect();
        all.extend(self.vsock.iter().map(|vsock| vsock.queues.map(Vec::from)));
        all.extend(self.net.iter().map(|net| net.queues.map(Vec::from)));
        all.extend(self.rng.iter().map(|rng| one(&rng.queue)));
        all.extend(
            self.balloon
                .iter()
                .map(|balloon| balloon.queues.map(Vec::from)),
        );
        all
    }
}
