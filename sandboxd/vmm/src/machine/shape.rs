//! What a machine looks like from inside, apart from what lies in its disks: all that must be known to make a process ready
//! before it is known which snapshot it will continue.

use serde::{Deserialize, Serialize};

use crate::config::{
    ConfigError, MAX_DISKS, MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB, MachineConfig,
};
use crate::devices::{balloon, block, net, rng, vsock};

/// The arguments of `prepare`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Number of disks.
    #[serde(default)]
    pub disks: usize,
    /// Whether there is a socket to the guest.
    #[serde(default)]
    pub vsock: bool,
    /// Whether there is a network card.
    #[serde(default)]
    pub net: bool,
    /// Whether there is an entropy source.
    #[serde(default)]
    pub rng: bool,
    /// Whether the guest reports free pages.
    #[serde(default)]
    pub balloon: bool,
}

/// A virtio device's place in the order of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A disk.
    Disk,
    /// The socket.
    Vsock,
    /// The network card.
    Net,
    /// The entropy source.
    Rng,
    /// The balloon.
    Balloon,
}

impl Kind {
    /// Number of queues.
    pub fn queues(self) -> usize {
        match self {
            Kind::Disk => block::QUEUES,
            Kind::Vsock => vsock::QUEUES,
            Kind::Net => net::QUEUES,
            Kind::Rng => rng::QUEUES,
            Kind::Balloon => balloon::QUEUES,
        }
    }
}

impl Shape {
    /// The shape of a configuration.
    pub fn of(config: &MachineConfig) -> Self {
        Self {
            vcpus: config.vcpus,
            memory_mib: config.memory_mib,
            disks: config.disks.len(),
            vsock: config.vsock.is_some(),
            net: config.net.is_some(),
            rng: config.rng,
            balloon: config.balloon,
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.vcpus == 0 || self.vcpus > MAX_VCPUS {
            Err(ConfigError::Vcpus(self.vcpus))
        } else if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&self.memory_mib) {
            Err(ConfigError::Memory(self.memory_mib))
        } else if self.disks > MAX_DISKS {
            Err(ConfigError::Disks(self.disks))
        } else {
            Ok(())
        }
    }

    /// The virtio devices in the order of the bus.
    pub fn devices(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Disk; self.disks];
        let optional = [
            (self.vsock, Kind::Vsock),
            (self.net, Kind::Net),
            (self.rng, Kind::Rng),
            (self.balloon, Kind::Balloon),
        ];
        kinds.extend(optional.iter().filter(|(on, _)| *on).map(|(_, kind)| *kind));
        kinds
    }

    /// Guest memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }
}
