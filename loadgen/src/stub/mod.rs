//! An E2B endpoint in memory whose times are known, to measure the measuring with.
//!
//! ```text
//!   request ─► stall (the whole server stands still) ─► slot (--capacity) ─► delay, drawn for the kind of call ─► answer
//!                                                                              └─ noted in the log, true to the nanosecond
//! ```
//!
//! It runs no code and keeps no secrets. Sandboxes are entries in a map: they have files, can be paused, copied and taken back,
//! and answer the few commands that the load generator runs.

pub mod agent;
pub mod answer;
pub mod api;
pub mod delay;
pub mod script;
pub mod serve;
pub mod world;

pub use self::delay::Delay;
pub use self::script::{Script, Stall};
pub use self::serve::Stub;
