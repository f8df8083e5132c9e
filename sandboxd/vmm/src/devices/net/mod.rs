//! virtio-net (Virtio 1.2, section 5.1) on a TAP interface of the host.
//!
//! ```text
//!   TAP ── read ──► frame buffer ──► one rx chain, or several (mergeable) ──► guest        queue 0
//!                   (one frame)      waits here while the guest has no buffers
//!
//!   guest ──► tx chain ──► header and addresses copied and checked ──► writev ──► TAP      queue 1
//!                          sender is not ours, or an offload that was not agreed on: dropped
//! ```
//!
//! Every frame, both ways, begins with the 12-byte `struct virtio_net_hdr_v1`, which the TAP speaks too.
//!
//! Ordering rules:
//! 1. The TAP is made and guarded by others: one that does not exist is refused, never made. The guest is told its MTU.
//! 2. What was checked is what is sent: the first bytes of a frame come from our copy, not from guest memory again.
//! 3. The TAP is watched edge-triggered and read until it is empty, the budget is used up or the guest has no buffer: nobody
//!    spins over a frame that cannot be placed.
//! 4. A frame that the TAP does not take at once is dropped, as by any network card.

mod device;
mod frame;
mod persist;
mod queue;
mod tap;
#[cfg(test)]
mod tests;

pub use self::device::Net;
pub use self::frame::Mac;
pub use self::persist::NetState;
pub use self::tap::{FrameIo, Offloads, Tap};

/// Number of queues.
pub const QUEUES: usize = 2;
/// Entries of each queue.
pub const QUEUE_SIZE: u16 = 256;
/// Bytes of work per event and direction; a frame counts as at least [`FRAME_COST`].
pub const EVENT_BUDGET: u64 = 4 << 20;
/// Least that a frame counts in [`EVENT_BUDGET`].
pub const FRAME_COST: u64 = 4 << 10;
/// Longest frame with its header: a 64 KiB packet that is still to be segmented, and its link layer.
pub const FRAME_MAX: u32 = 68 << 10;

/// Why the device cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// There is no such interface.
    #[error("there is no TAP interface {0}; it has to be made before the machine")]
    Missing(String),
    /// The interface cannot be used.
    #[error("the TAP interface {tap} cannot be used: {source}")]
    Tap {
        /// Name of the interface.
        tap: String,
        /// What the host said.
        source: std::io::Error,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The host is out of a resource.
    #[error("the events of the network card cannot be made: {0}")]
    Host(#[from] std::io::Error),
    /// The saved card had another address.
    #[error("the network card was saved with the address {saved}, but {configured} is configured")]
    OtherMac {
        /// Address in the state.
        saved: Mac,
        /// Address in the configuration.
        configured: Mac,
    },
}
