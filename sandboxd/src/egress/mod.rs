//! Egress: from the network options of a request to the policy of a sandbox's TAP.
//!
//! ```text
//!   create / PUT network ──► [Options] (checked) ──► [Policy] ──► Egress::acquire / update ──► TAP of the sandbox
//! ```
//!
//! The decision is pure ([`options`]); [`Egress`] is the seam to the data plane, so that a daemon without a network
//! and tests need none. Rules:
//! 1. Nothing gets out unless the request said so, or the daemon was started with `--default-egress allow`.
//! 2. A sandbox keeps its TAP from before its machine starts until its process is dead: a slot that is still in use
//!    by a dying machine is never given to another.

pub mod guard;
pub mod options;

use std::net::Ipv4Addr;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use options::{Options, OptionsError};

/// What a packet meets when no list matches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes out.
    Allow,
    /// It does not.
    Deny,
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Net {
    /// Lowest address.
    pub address: Ipv4Addr,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
}

/// What a sandbox may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When no list matches.
    pub default: Verdict,
    /// Let out; wins over `deny`.
    pub allow: Vec<Net>,
    /// Kept in.
    pub deny: Vec<Net>,
}

/// The network device of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Its number.
    pub slot: u32,
    /// Its interface on the host.
    pub name: String,
    /// Hardware address of the guest.
    pub mac: String,
}

/// Why the network of a sandbox could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The data plane refused or failed.
    #[error("The sandbox network failed: {0}.")]
    Guard(#[from] netguard::NetguardError),
    /// The data plane's thread could not be started.
    #[error("The sandbox network's thread could not be started: {0}.")]
    Thread(std::io::Error),
    /// The data plane's worker is gone.
    #[error("The sandbox network has stopped.")]
    Stopped,
}

/// The data plane.
pub trait Egress: Send + Sync {
    /// A device with this policy; `None` when guests have no network.
    fn acquire(&self, policy: Policy) -> BoxFuture<'_, Result<Option<Tap>, EgressError>>;
    /// Takes over the device of a machine that an earlier daemon started.
    fn adopt(&self, slot: u32, policy: Policy) -> BoxFuture<'_, Result<Option<Tap>, EgressError>>;
    /// Releases the devices of an earlier daemon that were not adopted.
    fn recovered(&self) -> BoxFuture<'_, Result<(), EgressError>>;
    /// Replaces the policy of a device.
    fn update(&self, slot: u32, policy: Policy) -> BoxFuture<'_, Result<(), EgressError>>;
    /// Gives a device back.
    fn release(&self, slot: u32) -> BoxFuture<'_, Result<(), EgressError>>;
    /// Removes everything (`keep` false), or leaves what running machines need.
    fn close(&self, keep: bool) -> BoxFuture<'_, Result<(), EgressError>>;
}

/// Guests without a network.
#[derive(Debug)]
pub struct NoNetwork;

impl Egress for NoNetwork {
    fn acquire(&self, _: Policy) -> BoxFuture<'_, Result<Option<Tap>, EgressError>> {
        async { Ok(None) }.boxed()
    }

    fn adopt(&self, _: u32, _: Policy) -> BoxFuture<'_, Result<Option<Tap>, EgressError>> {
        async { Ok(None) }.boxed()
    }

    fn update(&self, _: u32, _: Policy) -> BoxFuture<'_, Result<(), EgressError>> {
        async { Ok(()) }.boxed()
    }

    fn recovered(&self) -> BoxFuture<'_, Result<(), EgressError>> {
        async { Ok(()) }.boxed()
    }

    fn release(&self, _: u32) -> BoxFuture<'_, Result<(), EgressError>> {
        async { Ok(()) }.boxed()
    }

    fn close(&self, _: bool) -> BoxFuture<'_, Result<(), EgressError>> {
        async { Ok(()) }.boxed()
    }
}
