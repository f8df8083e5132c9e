//! Decisions that take values and return values: no clock, no lock, no I/O. Time is a `Duration` since the scenario's start, chance is a
//! generator derived from the seed, so that the same calls in the same order have the same outcome byte for byte.

pub mod bounded;
pub mod idempotency;
pub mod latency;
pub mod quota;
pub mod schedule;
pub mod seed;
