//! The daemon: E2B-compatible API and proxy over KVM microVMs.
#![allow(dead_code)]
mod admission;
mod api;
mod egress;
mod ids;
mod lifecycle;
mod machine;
mod moment;
mod store;
mod telemetry;
mod templates;
