//! virtio-rng (Virtio 1.2, section 5.4): random bytes of the host for the guest.
//!
//! ```text
//!   queue 0 ──► Chain ──► tokens? ── yes ──► getrandom ──► at most 4 KiB into the writable part
//!                            │ no
//!                            └──► the chain stays in the ring; a timer brings the device back
//! ```
//!
//! Ordering rules:
//! 1. A request costs its bytes, and at least [`REQUEST_COST`]; the bucket gives [`RATE`] a second with bursts of
//!    [`BURST`], so a guest that asks without end costs the host next to nothing.
//! 2. A request for more than [`FILL_MAX`] bytes is answered with less, which the specification allows.

mod device;
mod persist;
mod queue;
#[cfg(test)]
mod tests;
pub mod token_bucket;

pub use self::device::Rng;
pub use self::persist::RngState;

/// Number of queues.
pub const QUEUES: usize = 1;
/// Entries of the queue.
pub const QUEUE_SIZE: u16 = 64;
/// Most bytes in one answer.
pub const FILL_MAX: usize = 4096;
/// Least that a request takes from the bucket, in bytes.
pub const REQUEST_COST: u64 = 64;
/// Bytes per second in the long run.
pub const RATE: u64 = 1 << 20;
/// Bytes that may come at once; it covers what a kernel asks for while it boots.
pub const BURST: u64 = 256 << 10;
/// Requests per event.
pub const EVENT_BUDGET: u64 = 32;
