//! Putting virtio devices on the bus: registers, interrupt line, and an ioeventfd for each queue.

use std::io;
use std::sync::{Arc, Mutex};

use kvm_ioctls::{IoEventAddress, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::arch::x86_64::acpi::VirtioSlot;
use crate::arch::x86_64::layout;
use crate::bus::{Bus, BusError};
use crate::devices::virtio::mmio::{MMIO_SIZE, MmioTransport, QUEUE_NOTIFY};
use crate::devices::virtio::{GuestMemory, VirtioDevice};
use crate::sync::lock;

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

/// Devices put on the bus so far, in guest order.
#[derive(Default)]
pub struct Slots {
    places: Vec<VirtioSlot>,
    devices: Vec<(String, Arc<Mutex<dyn VirtioDevice>>)>,
}

impl Slots {
    /// Puts `device` at the next place and calls it `name` in statistics.
    ///
    /// # Errors
    /// See [`SlotError`].
    pub fn add(
        &mut self,
        name: String,
        device: Arc<Mutex<dyn VirtioDevice>>,
        memory: &Arc<GuestMemory>,
        vm: &VmFd,
        bus: &mut Bus,
    ) -> Result<(), SlotError> {
        let index = self.places.len();
        if index >= layout::MAX_VIRTIO {
            return Err(SlotError::Full);
        }
        let address = layout::VIRTIO_MMIO + index as u64 * MMIO_SIZE;
        let gsi = layout::VIRTIO_GSI + u32::try_from(index).map_err(|_| SlotError::Full)?;
        let irqfd = interrupt(vm, gsi)?;
        let queues = lock(&device).queue_max_sizes().len();
        let mut events = Vec::with_capacity(queues);
        for queue in 0..queues {
            let event = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
            let register = IoEventAddress::Mmio(address + QUEUE_NOTIFY);
            let queue = u32::try_from(queue).map_err(|_| SlotError::Full)?;
            vm.register_ioevent(&event, &register, queue)
                .map_err(|error| SlotError::Kvm("queue notification", error))?;
            events.push(event);
        }
        let transport = MmioTransport::new(Arc::clone(&device), Arc::clone(memory), events, irqfd);
        bus.insert(address, MMIO_SIZE, Arc::new(Mutex::new(transport)))?;
        self.places.push(VirtioSlot { address, gsi });
        self.devices.push((name, device));
        Ok(())
    }

    /// Where each device is, for the ACPI tables.
    pub fn places(&self) -> &[VirtioSlot] {
        &self.places
    }

    /// All devices with their names.
    pub fn devices(&self) -> &[(String, Arc<Mutex<dyn VirtioDevice>>)] {
        &self.devices
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
