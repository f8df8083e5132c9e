//! One machine: everything between a configuration and a running guest.
//!
//! ```text
//!   shape ─► Prepared ─┬─ boot:    tables, kernel, first registers ──┬─► devices on buses ─► resume
//!                      └─ restore: memory mapped, state put back ────┘
//!                                  Machine ──snapshot──► folder ──rollback──► the same Machine, earlier
//! ```
//!
//! Ordering rules:
//! 1. The parts are taken down in the reverse order: first the virtual CPUs stop, then the event loop, then the devices
//!    go, and guest memory last. The fields of [`Machine`] stand in that order.
//! 2. Nothing of the guest runs before [`Machine::resume`].

mod builder;
mod devices;
mod prefetch;
mod prepared;
mod restore;
mod rollback;
mod save;
mod shape;
mod slots;
mod vm;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kvm_ioctls::VmFd;

pub use self::builder::{BuildError, Options, build};
pub use self::devices::{DeviceError, Devices, DevicesState};
pub use self::prepared::Prepared;
pub use self::restore::{Order, fits, plan, restore, stage, unstage};
pub use self::rollback::RollbackError;
use self::save::Base;
pub use self::save::SaveError;
pub use self::shape::Shape;
pub use self::slots::SlotError;
pub use self::vm::VmError;
use crate::arch::x86_64::cpuid::CpuIdentity;
use crate::config::MachineConfig;
use crate::control::VcpuExits;
use crate::devices::legacy::serial::SerialPort;
use crate::devices::virtio::mmio::MmioTransport;
use crate::devices::virtio::{GuestMemory, VirtioDevice};
use crate::devices::vmgenid::VmGenId;
use crate::event_loop::EventLoop;
use crate::exit::ExitCell;
use crate::memory::pagemap::{Pagemap, Which};
use crate::memory::record::Recording;
use crate::sync::lock;
use crate::vcpu::{Buses, VcpuError, Vcpus};

/// A built machine.
pub struct Machine {
    vcpus: Vcpus,
    _event_loop: EventLoop,
    devices: Devices,
    named: Vec<(String, Arc<Mutex<dyn VirtioDevice>>)>,
    transports: Vec<Arc<Mutex<MmioTransport>>>,
    serial: Arc<Mutex<SerialPort>>,
    buses: Arc<Buses>,
    generation_id: VmGenId,
    config: MachineConfig,
    /// The snapshot whose pages lie under guest memory.
    base: Option<Base>,
    /// Exact books of the pages touched, when the restore asked for them.
    recording: Option<Recording>,
    cpu: CpuIdentity,
    msr_indices: Vec<u32>,
    pagemap: Pagemap,
    exit: Arc<ExitCell>,
    vm: VmFd,
    memory: Arc<GuestMemory>,
}

impl Machine {
    /// Lets the guest run.
    pub fn resume(&self) {
        self.vcpus.resume();
    }

    /// Stops the guest; returns when every virtual CPU stands still.
    ///
    /// # Errors
    /// When one does not within five seconds.
    pub fn pause(&self) -> Result<(), VcpuError> {
        self.vcpus.pause()
    }

    /// Exits of the virtual CPUs so far.
    pub fn exits(&self) -> VcpuExits {
        self.vcpus.exits()
    }

    /// Guest memory in MiB.
    pub fn memory_mib(&self) -> u32 {
        self.config.memory_mib
    }

    /// Guest memory that is in the host's memory through this process, in KiB: own pages and shared ones of a snapshot.
    pub fn resident_kib(&self) -> u64 {
        let found = self.pagemap.find(&self.memory, Which::Resident);
        let ranges = found.unwrap_or_default();
        ranges.iter().map(|&(_, len)| len >> 10).sum()
    }

    /// The generation id, to be changed after a restore.
    pub fn generation_id(&self) -> &VmGenId {
        &self.generation_id
    }

    /// Counters of every device by its name; `bus` counts accesses that no device answered.
    pub fn counters(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let named = |counters: Vec<(&'static str, u64)>| {
            counters
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
        };
        let mut all: BTreeMap<_, _> = self
            .named
            .iter()
            .map(|(name, device)| (name.clone(), named(lock(device).counters())))
            .collect();
        all.insert("serial".into(), named(lock(&self.serial).counters()));
        let unclaimed = vec![
            ("unclaimed_pio", self.buses.pio.unclaimed()),
            ("unclaimed_mmio", self.buses.mmio.unclaimed()),
        ];
        all.insert("bus".into(), named(unclaimed));
        all
    }

    /// Writes serial output that is still held back.
    pub fn flush_serial(&self) {
        lock(&self.serial).flush();
    }

    /// What the guest's kernel printed when it panicked, if it did.
    pub fn panic_line(&self) -> Option<String> {
        lock(&self.serial).panic_line()
    }
}
