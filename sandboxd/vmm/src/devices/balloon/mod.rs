//! virtio-balloon (Virtio 1.2, section 5.5) with free page reporting alone: the guest says which of its pages are free, and the
//! host takes them back until they are touched again. The device never asks for pages; its size stays at zero.
//!
//! ```text
//!   queue 2 ──► Chain of writable buffers, each a run of free pages ──► the pages go back to the host ──► given back
//!   queues 0 and 1 (inflate, deflate) ──► given back; there is nothing to do
//! ```
//!
//! **What a reported page reads as afterwards.** Guest memory is a private mapping (see [`crate::memory`]). A page that the
//! guest had written is dropped, and a later read finds what is below: zeroes, or in a restored machine the page as it was in
//! the snapshot. That is an old page of this very guest, never of another, and the guest does not look: without
//! VIRTIO_BALLOON_F_PAGE_POISON, which is not offered, a driver counts on nothing in a reported page (5.5.6.7); Linux turns
//! reporting off by itself when it is built or told to rely on the contents of free pages (`init_on_free`, page poisoning).
//! A snapshot taken later holds for such a page what a read finds, so a guest that goes on from it sees the same.
//!
//! Ordering rules:
//! 1. A page is dropped before its chain is given back: until then the guest does not hand it out.
//! 2. Only whole pages inside a buffer are dropped; what a hostile guest reports is its own loss.

mod device;
mod persist;
mod queue;
#[cfg(test)]
mod tests;

pub use self::device::Balloon;
pub use self::persist::BalloonState;

/// Number of queues.
pub const QUEUES: usize = 3;
/// Entries of each queue. Linux reports up to 32 runs at a time.
pub const QUEUE_SIZE: u16 = 128;
/// Bytes of reports per event.
pub const EVENT_BUDGET: u64 = 256 << 20;
/// Least that a report counts in [`EVENT_BUDGET`].
pub const REPORT_COST: u64 = 1 << 20;
