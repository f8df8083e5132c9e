//! Mock tool APIs on the host's side of a guest's network: they know who calls, misbehave on schedule, and give a verdict on the agent.
//!
//! ```text
//! scenario file ─► engine (pure: request + time ─► decision) ─► server ─► wire
//!                     │                                            │
//!                     └── contract (OpenAPI), faults, quotas       └─► journal ─► verdicts
//! ```

#![forbid(unsafe_code)]

pub mod fault;
pub mod pure;
pub mod scenario;
