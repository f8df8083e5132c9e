//! The network of sandboxes: a pool of TAP interfaces, each guarded by eBPF programs.
//!
//! ```text
//!   EgressPolicy ─► policy (pure) ─► rules ─► datapath ─► maps ◄─ programs (bpf/) on each TAP
//!                                                │
//!   Netguard: slots (pure) ─► tap, netlink, sysctl: interfaces, routes, neighbours
//!                          ├► firewall: nftables table beside them; instance: who we are
//!                          └► services: addresses of the host's that policies may open
//! ```
//!
//! What a guest gets: one address, one gateway, and packets to those IPv4 addresses its policy
//! names, translated to the host's address. What it never gets, whatever the policy says: other
//! guests, the host, link-local metadata services, private ranges (but for those the operator
//! exempts), IPv6. See [`policy`] for the rules and `bpf/netguard.bpf.c` for how they are enforced.
//!
//! Of the host, `net.ipv4.ip_forward` is switched on while a [`Netguard`] is in use and put back by
//! [`Netguard::close`] when it was off before.

pub mod datapath;
mod firewall;
mod guard;
mod instance;
pub mod link;
mod netlink;
pub mod policy;
pub mod services;
mod slots;
mod sysctl;
mod tap;

#[cfg(test)]
mod world;
#[cfg(test)]
mod world_tests;

pub use datapath::{Counters, Event, Verdict};
pub use firewall::FirewallError;
pub use guard::{Config, Netguard, NetguardError, Tap};
pub use instance::InstanceError;
pub use ipnet::Ipv4Net;
pub use policy::{DefaultAction, EgressPolicy, PolicyError};
