//! The daemon: E2B-compatible API and proxy over KVM microVMs.
//!
//! ```text
//!   cli ─► api ─────┬─► lifecycle ──┬─► machine ─► microvm processes, guest agents
//!          proxy ───┤               ├─► egress  ─► TAPs and eBPF policies
//!          services ┘               ├─► store   ─► SQLite
//!                                   └─► admission, templates, telemetry
//! ```
//!
//! Nothing lower imports anything higher; decisions are pure functions in files of their own, I/O and locks live at
//! the edge of each module.

#![deny(unsafe_code)]

mod admission;
mod api;
// Benchmarks are another crate and need the daemon's inside; nobody else does.
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
pub mod cli;
mod egress;
mod ids;
mod lifecycle;
mod machine;
mod moment;
mod proxy;
mod services;
mod store;
mod telemetry;
mod templates;
