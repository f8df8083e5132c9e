//! Mock tool APIs on the host's side of a guest's network: they know who calls, misbehave on schedule, and give a verdict on the agent.
//!
//! ```text
//! scenario file ─► engine (pure: request + time ─► decision) ─► server ─► wire
//!                     │                                            │
//!                     └── contract (OpenAPI), faults, quotas       └─► journal ─► verdicts
//! ```

#![forbid(unsafe_code)]

pub mod cli;
pub mod contract;
pub mod contract_run;
pub mod engine;
pub mod fault;
pub mod journal;
pub mod mcp;
mod near_miss;
pub mod pure;
pub mod record;
pub mod scenario;
pub mod server;
pub mod verdict;

pub use server::Server;
