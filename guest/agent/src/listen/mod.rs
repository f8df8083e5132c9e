//! Where connections come from, and what happens to each.
//!
//! ```text
//!   vsock 1024 ──▶ connection: opening line ──┬── CONTROL ──▶ control
//!                                             ├── TCP 49983 (and 49999) ──▶ HTTP in process
//!                                             └── TCP n ──▶ tunnel to a port of the guest
//!   127.0.0.1 and ::1, ports 49983 and 49999 ──▶ HTTP in process
//! ```

pub mod connection;
pub mod control;
pub mod loopback;
pub mod tunnel;
pub mod vsock;
