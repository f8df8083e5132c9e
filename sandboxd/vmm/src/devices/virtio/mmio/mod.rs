//! The virtio-mmio transport, version 2 (Virtio 1.2, section 4.2): the register file between a driver and a device.
//!
//! ```text
//!   0x000 magic, version, ids      0x044..0x0a4 the selected queue      0x0fc configuration generation
//!   0x010 features                 0x060 interrupt status and ack       0x100.. device configuration
//!   0x030 queue selection          0x070 device status
//! ```
//!
//! Ordering rules:
//! 1. Features are taken between DRIVER and FEATURES_OK, queues between FEATURES_OK and DRIVER_OK; a write at any other
//!    time is ignored (the status machine is in [`status`]).
//! 2. At DRIVER_OK every enabled queue is checked to lie in guest memory; if one does not, or the device refuses, the
//!    driver sees DEVICE_NEEDS_RESET.
//! 3. Registers are 32 bits wide; another width or alignment below 0x100 reads as zero and writes nothing.
//!
//! Locks are taken in the order transport, then device; the device raises interrupts without either.

mod interrupt;
mod persist;
mod queue;
pub mod status;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tracing::warn;
use vmm_sys_util::eventfd::EventFd;

pub use self::interrupt::{CONFIG_CHANGE, InterruptLine, USED_BUFFER};
pub use self::persist::{TransportError, TransportState};
pub use self::queue::{Half, QueueError, QueueSetup, Ring};
use self::status::Step;
use super::{Activation, GuestMemory, Interrupt, VirtioDevice};
use crate::bus::BusDevice;
use crate::sync::lock;

/// Bytes of address space that a transport takes: the registers and the device configuration.
pub const MMIO_SIZE: u64 = 0x1000;
/// Offset of QueueNotify, where ioeventfds are put.
pub const QUEUE_NOTIFY: u64 = 0x50;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
/// Vendor id: ASCII "sbxd".
const VENDOR: u32 = u32::from_le_bytes(*b"sbxd");
const CONFIG_SPACE: u64 = 0x100;
const F_VERSION_1: u64 = 1 << 32;
const F_EVENT_IDX: u64 = 1 << 29;
/// What SHMLen and SHMBase read as when there is no shared memory region (Virtio 1.2, 4.2.2).
const NO_SHARED_MEMORY: u32 = u32::MAX;

/// One device behind its registers.
pub struct MmioTransport {
    device: Arc<Mutex<dyn VirtioDevice>>,
    memory: Arc<GuestMemory>,
    line: Arc<InterruptLine>,
    queue_events: Vec<Arc<EventFd>>,
    queues: Vec<QueueSetup>,
    queue_select: u32,
    device_type: u32,
    offered: u64,
    accepted: u64,
    device_features_select: u32,
    driver_features_select: u32,
    activated: bool,
}

impl MmioTransport {
    /// Puts registers before `device`. `queue_events` has one eventfd per queue; `irqfd` raises the interrupt.
    pub fn new(
        device: Arc<Mutex<dyn VirtioDevice>>,
        memory: Arc<GuestMemory>,
        queue_events: Vec<Arc<EventFd>>,
        irqfd: Arc<EventFd>,
    ) -> Self {
        let (device_type, offered, queues) = {
            let device = lock(&device);
            let queues = device
                .queue_max_sizes()
                .iter()
                .map(|&max| QueueSetup::new(max))
                .collect();
            (
                device.device_type(),
                device.features() | F_VERSION_1,
                queues,
            )
        };
        Self {
            device,
            memory,
            line: Arc::new(InterruptLine::new(irqfd)),
            queue_events,
            queues,
            queue_select: 0,
            device_type,
            offered,
            accepted: 0,
            device_features_select: 0,
            driver_features_select: 0,
            activated: false,
        }
    }

    /// The device status register.
    pub fn status(&self) -> u32 {
        self.line.device_status.load(Ordering::SeqCst)
    }

    /// Features that the driver has accepted so far.
    pub fn accepted_features(&self) -> u64 {
        self.accepted
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            0x000 => MAGIC,
            0x004 => VERSION,
            0x008 => self.device_type,
            0x00c => VENDOR,
            0x010 => feature_word(self.offered, self.device_features_select),
            0x034 => self
                .selected()
                .map_or(0, |queue| u32::from(queue.max_size())),
            0x044 => self.selected().map_or(0, |queue| u32::from(queue.ready())),
            0x060 => self.line.pending(),
            0x070 => self.status(),
            0x0b0..=0x0bc => NO_SHARED_MEMORY,
            0x0fc => self.line.config_generation.load(Ordering::SeqCst),
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        match offset {
            0x014 => self.device_features_select = value,
            0x020 => self.accept_features(value),
            0x024 => self.driver_features_select = value,
            0x030 => self.queue_select = value,
            0x038 => self.set_up_queue(|queue| queue.set_size(value)),
            0x044 => self.set_up_queue(|queue| queue.set_ready(value == 1)),
            0x050 => self.notify(value),
            0x064 => self.line.acknowledge(value),
            0x070 => self.write_status(value),
            0x080 => self.set_address(Ring::Descriptors, Half::Low, value),
            0x084 => self.set_address(Ring::Descriptors, Half::High, value),
            0x090 => self.set_address(Ring::Available, Half::Low, value),
            0x094 => self.set_address(Ring::Available, Half::High, value),
            0x0a0 => self.set_address(Ring::Used, Half::Low, value),
            0x0a4 => self.set_address(Ring::Used, Half::High, value),
            _ => {}
        }
    }

    fn selected(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    fn set_up_queue(&mut self, change: impl FnOnce(&mut QueueSetup)) {
        if !status::may_set_up_queues(self.status()) {
            return;
        }
        let selected = usize::try_from(self.queue_select).ok();
        if let Some(queue) = selected.and_then(|index| self.queues.get_mut(index)) {
            change(queue);
        }
    }

    fn set_address(&mut self, ring: Ring, half: Half, value: u32) {
        self.set_up_queue(|queue| queue.set_address(ring, half, value));
    }

    fn accept_features(&mut self, value: u32) {
        if !status::may_choose_features(self.status()) {
            return;
        }
        let value = u64::from(value);
        match self.driver_features_select {
            0 => self.accepted = (self.accepted & !0xffff_ffff) | value,
            1 => self.accepted = (self.accepted & 0xffff_ffff) | (value << 32),
            _ => {}
        }
    }

    /// The slow path of a notification; with ioeventfds in place the kernel writes the event by itself.
    fn notify(&self, queue: u32) {
        let event = usize::try_from(queue)
            .ok()
            .and_then(|index| self.queue_events.get(index));
        if let Some(event) = event {
            let _ = event.write(1);
        }
    }

    fn write_status(&mut self, written: u32) {
        match status::step(self.status(), written) {
            Step::Ignore => {}
            Step::Reset => self.reset(),
            Step::Set(next) => self.store_status(next),
            Step::CheckFeatures(next) => {
                let acceptable =
                    self.accepted & !self.offered == 0 && self.accepted & F_VERSION_1 != 0;
                if acceptable {
                    self.store_status(next);
                }
            }
            Step::Activate(next) => {
                self.store_status(next);
                self.activate();
            }
        }
    }

    /// Stores driver bits; NEEDS_RESET may be raised by the device at the same moment and must not be lost.
    fn store_status(&self, next: u32) {
        self.line.device_status.fetch_or(next, Ordering::SeqCst);
    }

    fn reset(&mut self) {
        if self.activated {
            lock(&self.device).reset();
        }
        self.activated = false;
        self.accepted = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.queue_select = 0;
        for queue in &mut self.queues {
            *queue = QueueSetup::new(queue.max_size());
        }
        self.line.reset();
    }

    fn activate(&mut self) {
        let event_idx = self.accepted & F_EVENT_IDX != 0;
        let queues: Result<Vec<_>, _> = self
            .queues
            .iter()
            .map(|queue| queue.build(&*self.memory, event_idx))
            .collect();
        let queues = match queues {
            Ok(queues) => queues,
            Err(error) => {
                warn!(device_type = self.device_type, %error, "driver set up a bad queue");
                return self.line.needs_reset();
            }
        };
        let interrupt: Arc<dyn Interrupt> = Arc::clone(&self.line) as Arc<dyn Interrupt>;
        let activation = Activation {
            memory: Arc::clone(&self.memory),
            queues,
            queue_events: self.queue_events.clone(),
            interrupt,
            features: self.accepted,
        };
        self.activated = true;
        if let Err(error) = lock(&self.device).activate(activation) {
            warn!(device_type = self.device_type, %error, "device could not be activated");
            self.line.needs_reset();
        }
    }
}

impl BusDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset >= CONFIG_SPACE {
            lock(&self.device).read_config(offset - CONFIG_SPACE, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data)
            && offset.is_multiple_of(4)
        {
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if offset >= CONFIG_SPACE {
            if self.status() & status::DRIVER != 0 {
                lock(&self.device).write_config(offset - CONFIG_SPACE, data);
            }
        } else if let Ok(word) = <[u8; 4]>::try_from(data)
            && offset.is_multiple_of(4)
        {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }
}

/// The 32 feature bits at `select`, as DeviceFeatures shows them.
fn feature_word(features: u64, select: u32) -> u32 {
    let bytes = features.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        1 => u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
