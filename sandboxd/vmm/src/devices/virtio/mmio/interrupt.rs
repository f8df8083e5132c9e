//! The interrupt of one virtio-mmio device, shared by the transport and the device.
//!
//! ```text
//!   device ── used / config_changed / needs_reset ──► status bits (atomics) ──► irqfd ──► in-kernel IOAPIC
//!   driver ── reads InterruptStatus, writes InterruptACK ◄── transport
//! ```
//!
//! The line is edge-triggered: the bits are set before the irqfd is written, so a driver that acknowledges what it has
//! read never loses an interrupt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

use super::status::{DRIVER_OK, NEEDS_RESET};
use crate::devices::virtio::Interrupt;

/// Buffers were used (Virtio 1.2, 4.2.2, InterruptStatus bit 0).
pub const USED_BUFFER: u32 = 1;
/// The configuration changed (bit 1).
pub const CONFIG_CHANGE: u32 = 2;

/// State that both the driver's registers and the device touch.
pub struct InterruptLine {
    pub(super) device_status: AtomicU32,
    pub(super) config_generation: AtomicU32,
    pending: AtomicU32,
    irqfd: Arc<EventFd>,
}

impl InterruptLine {
    /// A quiet line that raises `irqfd`.
    pub fn new(irqfd: Arc<EventFd>) -> Self {
        Self {
            device_status: AtomicU32::new(0),
            config_generation: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            irqfd,
        }
    }

    /// Bits that the driver has not acknowledged.
    pub fn pending(&self) -> u32 {
        self.pending.load(Ordering::SeqCst)
    }

    /// Takes away acknowledged bits.
    pub fn acknowledge(&self, bits: u32) {
        self.pending.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Back to the state before any driver.
    pub(super) fn reset(&self) {
        self.device_status.store(0, Ordering::SeqCst);
        self.pending.store(0, Ordering::SeqCst);
    }

    /// As it stood in a snapshot; nothing is raised.
    pub(super) fn restore(&self, status: u32, pending: u32, generation: u32) {
        self.device_status.store(status, Ordering::SeqCst);
        self.pending.store(pending, Ordering::SeqCst);
        self.config_generation.store(generation, Ordering::SeqCst);
    }

    /// Raises the line again for bits that are not acknowledged: the edge may have been lost on its way.
    pub(super) fn raise_pending(&self) {
        if self.pending() != 0 {
            let _ = self.irqfd.write(1);
        }
    }

    fn raise(&self, bit: u32) {
        self.pending.fetch_or(bit, Ordering::SeqCst);
        // The counter of a non-blocking eventfd can only be full when the interrupt is already on its way.
        let _ = self.irqfd.write(1);
    }
}

impl Interrupt for InterruptLine {
    fn used(&self) {
        self.raise(USED_BUFFER);
    }

    fn config_changed(&self) {
        self.config_generation.fetch_add(1, Ordering::SeqCst);
        self.raise(CONFIG_CHANGE);
    }

    fn needs_reset(&self) {
        let before = self.device_status.fetch_or(NEEDS_RESET, Ordering::SeqCst);
        // Virtio 1.2, 2.1.2: the driver is told only once it has set DRIVER_OK.
        if before & DRIVER_OK != 0 {
            self.raise(CONFIG_CHANGE);
        }
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn line() -> (InterruptLine, Arc<EventFd>) {
        let irqfd = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        (InterruptLine::new(Arc::clone(&irqfd)), irqfd)
    }

    #[test]
    fn bits_stay_until_acknowledged() {
        let (line, irqfd) = line();
        line.used();
        line.config_changed();
        assert_eq!(line.pending(), USED_BUFFER | CONFIG_CHANGE);
        assert_eq!(irqfd.read().unwrap(), 2);
        line.acknowledge(USED_BUFFER);
        assert_eq!(line.pending(), CONFIG_CHANGE);
        assert_eq!(line.config_generation.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn needs_reset_interrupts_only_a_running_driver() {
        let (line, irqfd) = line();
        line.needs_reset();
        assert!(irqfd.read().is_err());
        line.reset();
        line.device_status.store(DRIVER_OK, Ordering::SeqCst);
        line.needs_reset();
        assert_eq!(irqfd.read().unwrap(), 1);
        assert_eq!(
            line.device_status.load(Ordering::SeqCst),
            DRIVER_OK | NEEDS_RESET
        );
    }

    #[test]
    fn a_full_counter_does_not_block() {
        let (line, irqfd) = line();
        irqfd.write(u64::MAX - 1).unwrap();
        line.used();
        assert_eq!(line.pending(), USED_BUFFER);
    }
}
