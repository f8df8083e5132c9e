//! The guest agent as a library; `main.rs` is its thin binary.
//!
//! ```text
//!             vsock 1024 ── listen ──┬── CONTROL ──▶ control     (configure, metrics, sync, shutdown)
//!                                    ├── TCP n ────▶ tunnel      (any port of the guest)
//!                                    └── 49983/49999 ─┐
//!   127.0.0.1, ::1 (programs in the guest) ───────────┴──▶ server (HTTP/1.1 + h2c)
//!                                                           ├─ envd: process, filesystem, files, health, metrics, …
//!                                                           └─ interpreter
//! ```
//!
//! Everything but `init` also works in an ordinary process: tests and `--standalone` use that.

pub mod agent;
pub mod auth;
pub mod endpoints;
pub mod errors;
pub mod files;
pub mod filesystem;
pub mod init;
pub mod interpreter;
pub mod listen;
pub mod log;
pub mod machine;
pub mod metrics;
pub mod paths;
pub mod process;
pub mod proto;
pub mod rpc;
pub mod server;
pub mod services;
pub mod standalone;
pub mod state;
pub mod users;
