//! What every virtio device has in common, and the contract between a device and the transport.
//!
//! ```text
//!   vCPU thread                                      event-loop thread
//!   MmioTransport ── register reads/writes ──► device (Mutex) ◄── queue eventfds, back-end fds
//!        │  FEATURES_OK, DRIVER_OK                        ▲
//!        └── activate(Activation) ── activate_evt ────────┘  (the loop then adds the queue eventfds)
//! ```
//!
//! Ordering rules:
//! 1. `activate` is called once per driver life, after DRIVER_OK, with queues whose addresses the transport has
//!    already checked to lie in guest memory; it must not block.
//! 2. A device touches a queue only between `activate` and `reset`.
//! 3. `reset` drops everything that belongs to the old driver life; the device may be activated again.
//! 4. A device that cannot go on sets DEVICE_NEEDS_RESET through [`Interrupt::needs_reset`]; it never panics.

pub mod chain;
pub mod guest_io;
pub mod live;
pub mod mmio;
pub mod queue_state;
#[cfg(test)]
pub mod test_driver;

use std::sync::Arc;

use event_manager::MutEventSubscriber;
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

/// Guest memory as every part of the process shares it (share it as `Arc<GuestMemory>`).
pub type GuestMemory = GuestMemoryMmap;

/// How a device raises interrupts; the transport implements it (Virtio 1.2, 2.3 and 4.2.2).
pub trait Interrupt: Send + Sync {
    /// Tells the driver that buffers were used on some queue.
    fn used(&self);
    /// Tells the driver that the configuration space changed.
    fn config_changed(&self);
    /// Marks the device as broken until the driver resets it.
    fn needs_reset(&self);
}

/// What a device is given when its driver is ready.
pub struct Activation {
    /// Guest memory.
    pub memory: Arc<GuestMemory>,
    /// One queue per entry of [`VirtioDevice::queue_max_sizes`]; a queue that the driver did not enable is not ready.
    /// VIRTIO_F_RING_EVENT_IDX is already set on them as negotiated.
    pub queues: Vec<Queue>,
    /// The ioeventfd of each queue, in the same order. They are the same eventfds in every activation of a device: a
    /// device adds them to the event loop once, keeps them there, and drains and ignores them while it is not active.
    pub queue_events: Vec<Arc<EventFd>>,
    /// Interrupt line shared by the queues.
    pub interrupt: Arc<dyn Interrupt>,
    /// Features that both sides agreed on.
    pub features: u64,
}

/// Why a device refused to be activated; the driver sees DEVICE_NEEDS_RESET.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The driver enabled a different number of queues than the device has.
    #[error("the driver set up {got} queues where the device has {want}")]
    QueueCount {
        /// Queues of the device.
        want: usize,
        /// Queues in the activation.
        got: usize,
    },
    /// A host resource that the device needs could not be had.
    #[error("a host resource of the device could not be set up: {0}")]
    Host(#[from] std::io::Error),
}

/// A virtio device behind the MMIO transport. It is also a subscriber of the event loop: `init` registers the event
/// returned by [`VirtioDevice::activate_event`], and its `process` adds the queue events when that one fires.
pub trait VirtioDevice: MutEventSubscriber + Send {
    /// Device type (Virtio 1.2, section 5).
    fn device_type(&self) -> u32;
    /// Feature bits offered; the transport adds VIRTIO_F_VERSION_1.
    fn features(&self) -> u64;
    /// Largest size of each queue, a power of two each.
    fn queue_max_sizes(&self) -> &[u16];
    /// Reads device configuration; bytes past its end read as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Writes device configuration; a write that the device does not allow is ignored.
    fn write_config(&mut self, offset: u64, data: &[u8]);
    /// The eventfd that the device's `process` waits for to take its queues into the event loop.
    fn activate_event(&self) -> &EventFd;
    /// Takes over queues; on success the device has written its activate event.
    ///
    /// # Errors
    /// When a host resource is missing or the queues do not match the device.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;
    /// Ends this driver life: queues are dropped, pending work forgotten.
    fn reset(&mut self);
    /// Counters for `stats`, by name.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

/// Whether a device status says that the driver is using the device.
pub fn status_is_active(status: u32) -> bool {
    use mmio::status::{DRIVER_OK, NEEDS_RESET};
    // A device that asked for a reset may never have taken its queues; it does nothing until that reset comes.
    status & DRIVER_OK != 0 && status & NEEDS_RESET == 0
}

/// Copies what lies at `offset` of a configuration space into `data`; bytes past its end read as zero.
pub fn config_bytes(config: &[u8], offset: u64, data: &mut [u8]) {
    let tail = usize::try_from(offset)
        .ok()
        .and_then(|offset| config.get(offset..))
        .unwrap_or(&[]);
    let known = tail.len().min(data.len());
    data[..known].copy_from_slice(&tail[..known]);
    data[known..].fill(0);
}
