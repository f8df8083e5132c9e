//! The places of virtio devices: interrupt line and an ioeventfd for each queue. They are wired before the devices are there,
//! because every ioeventfd makes KVM wait for its readers.

use std::io;
use std::sync::{Arc, Mutex};

use kvm_ioctls::{IoEventAddress, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::shape::Kind;
use crate::arch::x86_64::acpi::VirtioSlot;
use crate::arch::x86_64::layout;
use crate::bus::{Bus, BusError};
use crate::devices::virtio::mmio::{MMIO_SIZE, MmioTransport, QUEUE_NOTIFY};
use crate::devices::virtio::{GuestMemory, VirtioDevice};

/// Why a device could not be put on the bus.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// No place left.
    #[error("a microVM has at most {max} virtio devices", max = layout::MAX_VIRTIO)]
    Full,
    /// No file descriptor left.
    #[error("an eventfd of a virtio device could not be made: {0}")]
    Event(#[from] io::Error),
    /// KVM refused an eventfd.
    #[error("KVM could not connect the {0} of a virtio device: {1}")]
    Kvm(&'static str, kvm_ioctls::Error),
    /// The address is taken.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A place on the bus, wired to KVM.
pub struct Slot {
    place: VirtioSlot,
    irqfd: Arc<EventFd>,
    events: Vec<Arc<EventFd>>,
}

impl Slot {
    /// Wires the places for devices of `kinds`.
    ///
    /// # Errors
    /// See [`SlotError`].
    pub fn wire(kinds: &[Kind], vm: &VmFd) -> Result<Vec<Self>, SlotError> {
        let mut slots = Vec::with_capacity(kinds.len());
        for (index, kind) in kinds.iter().enumerate() {
            if index >= layout::MAX_VIRTIO {
                return Err(SlotError::Full);
            }
            let address = layout::VIRTIO_MMIO + index as u64 * MMIO_SIZE;
            let gsi = layout::VIRTIO_GSI + u32::try_from(index).map_err(|_| SlotError::Full)?;
            let mut events = Vec::with_capacity(kind.queues());
            for queue in 0..kind.queues() {
                let event = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
                let register = IoEventAddress::Mmio(address + QUEUE_NOTIFY);
                let queue = u32::try_from(queue).map_err(|_| SlotError::Full)?;
                vm.register_ioevent(&event, &register, queue)
                    .map_err(|error| SlotError::Kvm("queue notification", error))?;
                events.push(event);
            }
            slots.push(Self {
                place: VirtioSlot { address, gsi },
                irqfd: interrupt(vm, gsi)?,
                events,
            });
        }
        Ok(slots)
    }

    /// Where it is, for the ACPI tables.
    pub fn place(&self) -> VirtioSlot {
        self.place
    }

    /// Puts `device` here.
    ///
    /// # Errors
    /// When something else answers at the address.
    pub fn fill(
        &self,
        device: Arc<Mutex<dyn VirtioDevice>>,
        memory: &Arc<GuestMemory>,
        bus: &mut Bus,
    ) -> Result<Arc<Mutex<MmioTransport>>, SlotError> {
        let transport = MmioTransport::new(
            device,
            Arc::clone(memory),
            self.events.clone(),
            Arc::clone(&self.irqfd),
        );
        let transport = Arc::new(Mutex::new(transport));
        bus.insert(self.place.address, MMIO_SIZE, Arc::clone(&transport) as _)?;
        Ok(transport)
    }
}

/// An eventfd that raises `gsi`.
///
/// # Errors
/// When there is no file descriptor left or KVM refuses it.
pub fn interrupt(vm: &VmFd, gsi: u32) -> Result<Arc<EventFd>, SlotError> {
    let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
    vm.register_irqfd(&event, gsi)
        .map_err(|error| SlotError::Kvm("interrupt", error))?;
    Ok(Arc::new(event))
}
