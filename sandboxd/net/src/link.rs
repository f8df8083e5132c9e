//! The link every guest has: one set of addresses for all, the TAP tells them apart.
//!
//! ```text
//!   guest 169.254.100.2/30 (06:00:a9:fe:64:02) ── TAP ── gateway 169.254.100.1 (06:00:a9:fe:64:01)
//!                                  │
//!             on the host slot n is 10.213.0.0 + n + 2, the slot's identity
//! ```

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Address of every guest.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 100, 2);
/// Address every guest uses as its gateway.
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 100, 1);
/// MAC address of every guest's network card.
pub const GUEST_MAC: [u8; 6] = [0x06, 0x00, 0xa9, 0xfe, 0x64, 0x02];
/// MAC address of every TAP.
pub const GATEWAY_MAC: [u8; 6] = [0x06, 0x00, 0xa9, 0xfe, 0x64, 0x01];
/// Largest IP packet on the link, in bytes.
pub const MTU: u32 = 1500;

/// Range the identities are taken from.
///
/// # Panics
/// Never: the prefix length is a constant within bounds.
#[must_use]
pub const fn identity_range() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 213, 0, 0), 16)
}

/// Slots there are addresses for: the range without its network, first and broadcast address.
pub const MAX_SLOTS: u32 = 65_533;

/// The slot's address on the host's side, for slots below [`MAX_SLOTS`].
#[must_use]
pub fn identity(slot: u32) -> Option<Ipv4Addr> {
    let base = u32::from(identity_range().network());
    (slot < MAX_SLOTS).then(|| Ipv4Addr::from(base + slot + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The agent configures the guest with its own copy of these constants.
    #[test]
    fn the_agent_agrees() {
        use agent_protocol::net;
        assert_eq!(GUEST_ADDRESS, net::GUEST_ADDRESS);
        assert_eq!(GATEWAY_ADDRESS, net::GATEWAY_ADDRESS);
        assert_eq!(GUEST_MAC, net::GUEST_MAC);
        assert_eq!(GATEWAY_MAC, net::GATEWAY_MAC);
        assert_eq!(MAX_SLOTS, net::MAX_SLOTS);
        for slot in [0, 1, 255, MAX_SLOTS - 1, MAX_SLOTS, u32::MAX] {
            assert_eq!(identity(slot), net::identity_address(slot));
        }
    }

    #[test]
    fn every_identity_is_a_host_of_the_range() {
        for slot in 0..MAX_SLOTS {
            let address = identity(slot).unwrap();
            assert!(identity_range().contains(&address));
            assert_ne!(address, identity_range().broadcast());
        }
    }
}
