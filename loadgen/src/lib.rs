//! A load generator for services that speak the E2B API, whose figures can be believed.
//!
//! ```text
//!  cli ──► session ──► drive ──► work ──► e2b ──► wire ──► the target
//!             │          │ pace: when a turn is due (pure)
//!             │          └──► record ──► samples, histograms, timelines
//!             └──► report.json (the schema is the crate reports')
//!  stub: an E2B endpoint in memory whose times are known, to measure the measuring with
//! ```
//!
//! Rules: arrivals are open loop unless asked otherwise, and latency counts from the planned send; failures stand beside latency;
//! what the target sends is hostile, so it is bounded; whatever happens, what was measured is kept and no sandbox is left.

#![forbid(unsafe_code)]

pub mod cli;
pub mod climb;
pub mod compare;
pub mod drive;
pub mod e2b;
pub mod live;
pub mod pace;
pub mod probe;
pub mod record;
pub mod selftest;
pub mod session;
pub mod stub;
pub mod wire;
pub mod work;
