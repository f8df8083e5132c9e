//! virtio-blk (Virtio 1.2, section 5.2): a disk that is a read-only raw file, or such a file under a copy-on-write
//! overlay. A raw file is never written; what a guest writes goes to the overlay.
//!
//! ```text
//!   queue 0 ──► Chain ──► request::decide ──► Operation ──► Backend ──► status byte
//!              (checked)   (pure)                            Raw       0 ok
//!                                                            Overlay   1 I/O error, also: overlay at its ceiling
//!                                                                      2 unsupported
//! ```
//!
//! Ordering rules:
//! 1. Requests are served one after the other on the event-loop thread, at most [`EVENT_BUDGET`] bytes per event, so that
//!    a busy disk leaves room for the other devices.
//! 2. The status byte is written after the data, the used ring after the status byte.
//! 3. A flush answers when everything that was answered before it is on the disk.

mod backend;
mod device;
pub mod overlay;
mod persist;
mod queue;
mod request;
#[cfg(test)]
mod tests;

pub use self::backend::{Backend, BackendError, RawFile};
pub use self::device::Block;
pub use self::persist::BlockState;

/// Bytes in a sector, the unit of every address and of the capacity (Virtio 1.2, 5.2.4).
pub const SECTOR: u64 = 512;
/// Number of queues.
pub const QUEUES: usize = 1;
/// Entries of the queue.
pub const QUEUE_SIZE: u16 = 256;
/// Most data segments in a request, as the driver is told.
pub const SEG_MAX: u16 = 126;
/// Most bytes in a segment, as the driver is told.
pub const SIZE_MAX: u32 = 64 << 10;
/// Most bytes in a request: a bit more than [`SEG_MAX`] times [`SIZE_MAX`].
pub const REQUEST_MAX: u32 = 8 << 20;
/// Most sectors in one range of a discard or write-zeroes request: 256 MiB.
pub const ERASE_SECTORS_MAX: u32 = 512 << 10;
/// Most ranges in one discard or write-zeroes request.
pub const ERASE_RANGES_MAX: u32 = 16;
/// Bytes of work per event, where a range of a discard counts as [`ERASE_COST`] and any request as at least 4 KiB.
pub const EVENT_BUDGET: u64 = 8 << 20;
/// What one range of a discard or write-zeroes request counts in [`EVENT_BUDGET`].
pub const ERASE_COST: u64 = 1 << 20;

/// Why a disk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The image could not be opened or measured.
    #[error("the disk image {path} cannot be opened: {source}")]
    Image {
        /// The image.
        path: std::path::PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// The image holds no sector, or is not a file or block device.
    #[error("the disk image {0} is empty or not a file")]
    Empty(std::path::PathBuf),
    /// A writable disk has no overlay to write to.
    #[error("the disk {0} is writable but has no overlay, and an image itself is never written")]
    NoOverlay(String),
    /// The overlay was refused.
    #[error("the overlay {path} is refused: {source}")]
    Overlay {
        /// The overlay file.
        path: std::path::PathBuf,
        /// Why.
        source: overlay::OverlayError,
    },
    /// The host is out of a resource.
    #[error("the disk's events cannot be made: {0}")]
    Host(#[from] std::io::Error),
    /// The disk is not the one whose state was saved.
    #[error("the disk {id} does not fit its saved state: {what} differs")]
    OtherDisk {
        /// Name of the disk.
        id: String,
        /// What differs.
        what: &'static str,
    },
}
