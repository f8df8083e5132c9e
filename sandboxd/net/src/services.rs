//! Addresses of this host that a sandbox's policy may open: services which the operator gives to sandboxes.
//!
//! ```text
//!   guest ─► TAP ─► [from_guest: policy] ─► input: TCP to port 80 of a service ─► whoever listens there, on this host
//! ```
//!
//! The listener sees the sandbox's identity as the peer address, which the guest cannot choose. The addresses go with an
//! interface that goes with this process: what is left of a daemon that died answers nobody.

use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::link::{GATEWAY_MAC, MTU};
use crate::netlink::{self, Request};
use crate::{sysctl, tap};

/// Range of the addresses: set aside for benchmarks between hosts (RFC 2544, RFC 6890), so that no host of the internet has one.
pub const RANGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);

/// The port of TCP on which services are reached.
pub const PORT: u16 = 80;

/// Most services.
pub const MAX: usize = 256;

/// The interface with the addresses. It goes when it is dropped.
#[derive(Debug)]
pub struct Interface(#[expect(dead_code, reason = "held")] tap::Fresh);

/// Why there is none: what was being done, and what the kernel said.
pub type Refused = (&'static str, io::Error);

impl Interface {
    /// Makes the interface `name` with all `addresses`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open(name: &str, alias: &str, addresses: &[Ipv4Addr]) -> Result<Self, Refused> {
        let at = |step| move |error| (step, error);
        let fresh = tap::create(name).map_err(at("creating it"))?;
        let index = netlink::index_of(name).map_err(at("looking it up"))?;
        let index = index.cast_signed();
        sysctl::harden(name).map_err(at("setting its sysctls"))?;
        let set_up = Request::SetUp {
            index,
            mac: GATEWAY_MAC,
            mtu: MTU,
            queue_len: 1,
            alias,
        };
        netlink::call(&set_up).map_err(at("setting it up"))?;
        for address in addresses.iter().copied() {
            let request = Request::Address { address, index };
            netlink::call(&request).map_err(at("giving it an address"))?;
        }
        Ok(Self(fresh))
    }
}
