//! All checks, one folder or file per area. A file begins with the table of its checks.
//!
//! A check tries one thing, makes what it needs itself, and tells its finding as expected and actual. What it needs and
//! does not get makes it untestable; only its own subject makes it fail.

mod auth;
mod errors;
mod files;
mod filesystem;
mod interpreter;
mod isolation;
mod lifecycle;
mod metrics;
mod network;
mod pause;
mod process;
mod protobuf;
mod proxy;
mod pty;
mod snapshot;
pub mod templates;
mod uniqueness;
mod volumes;
mod watch;

use crate::check::Check;

/// All of them, in the order of reports.
#[must_use]
pub fn all() -> Vec<Check> {
    [
        lifecycle::all(),
        auth::CHECKS.to_vec(),
        errors::all(),
        process::all(),
        pty::all(),
        filesystem::all(),
        watch::all(),
        files::all(),
        proxy::all(),
        interpreter::all(),
        pause::all(),
        snapshot::all(),
        network::all(),
        metrics::all(),
        templates::all(),
        volumes::all(),
        uniqueness::CHECKS.to_vec(),
        isolation::all(),
        protobuf::all(),
        crate::sdk::steps::checks(),
    ]
    .concat()
}
