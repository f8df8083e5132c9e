//! The Filesystem service: what is there, make, move, remove, watch.
//!
//! ```text
//! service      Connect calls ──► resolved paths, the calling user
//!   ├─ operations   stat, make, move (copy: between file systems), remove
//!   ├─ list         the walk
//!   ├─ watch        streams and polled watchers
//!   └─ entry        one file as clients see it: permissions, metadata
//! ```
//!
//! Everything that touches a disk runs on blocking threads. The service acts as root and gives what it makes to
//! the calling user; see [`operations`] for why it does not check that user's permissions.

pub mod copy;
pub mod entry;
pub mod error;
pub mod list;
pub mod metadata;
pub mod operations;
pub mod permissions;
mod service;
pub mod watch;
mod wire;

pub use service::{FilesystemService, register};

#[cfg(test)]
mod tests;
