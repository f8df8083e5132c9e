//! Network identity of a guest. Every guest has the same addresses: which sandbox a packet belongs to is decided by
//! the TAP it came through, never by what the guest wrote into it.
//!
//! ```text
//!   guest 169.254.100.2/30 (06:00:a9:fe:64:02) ── TAP sbx<slot> ── gateway 169.254.100.1 (06:00:a9:fe:64:01)
//!                                                     │
//!                          on the host the slot is known as 10.213.0.0 + (slot + 2)
//! ```

use std::net::Ipv4Addr;

/// Address of every guest's `eth0`.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 100, 2);

/// Address of the host's end of the TAP, the guest's default gateway.
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 100, 1);

/// Prefix length of the guest's link network.
pub const GUEST_PREFIX: u8 = 30;

/// Hardware address of every guest's `eth0`.
pub const GUEST_MAC: [u8; 6] = [0x06, 0x00, 0xa9, 0xfe, 0x64, 0x02];

/// Hardware address of the gateway, put into the guest as a permanent neighbour.
pub const GATEWAY_MAC: [u8; 6] = [0x06, 0x00, 0xa9, 0xfe, 0x64, 0x01];

/// First address of the range in which each slot has its host-side identity.
pub const IDENTITY_BASE: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 0);

/// Number of slots: identity addresses run from `IDENTITY_BASE + 2` and leave out the broadcast address of the /16.
pub const MAX_SLOTS: u32 = 65_536 - 3;

/// Host-side identity address of `slot`, or `None` when the slot is outside `0..MAX_SLOTS`.
#[must_use]
pub fn identity_address(slot: u32) -> Option<Ipv4Addr> {
    (slot < MAX_SLOTS).then(|| Ipv4Addr::from(u32::from(IDENTITY_BASE) + slot + 2))
}

/// Slot whose identity address is `address`; the inverse of [`identity_address`].
#[must_use]
pub fn slot_of_identity(address: Ipv4Addr) -> Option<u32> {
    u32::from(address)
        .checked_sub(u32::from(IDENTITY_BASE) + 2)
        .filter(|slot| *slot < MAX_SLOTS)
}

/// Name of the TAP of `slot`; at most 8 characters, well inside the kernel's limit of 15.
#[must_use]
pub fn tap_name(slot: u32) -> String {
    format!("sbx{slot}")
}

/// Writes a hardware address in the usual form, `06:00:a9:fe:64:02`.
#[must_use]
pub fn format_mac(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// Reads a hardware address written as six two-digit hexadecimal groups with colons.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0u8; 6];
    let mut groups = text.split(':');
    for byte in &mut mac {
        let group = groups.next()?;
        if group.len() != 2 || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(group, 16).ok()?;
    }
    groups.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn guest_and_gateway_share_the_link_network() {
        let mask = u32::MAX << (32 - u32::from(GUEST_PREFIX));
        assert_eq!(
            u32::from(GUEST_ADDRESS) & mask,
            u32::from(GATEWAY_ADDRESS) & mask
        );
        assert_ne!(GUEST_ADDRESS, GATEWAY_ADDRESS);
    }

    #[test]
    fn hardware_addresses_carry_the_ip_address() {
        assert_eq!(GUEST_MAC[2..], GUEST_ADDRESS.octets());
        assert_eq!(GATEWAY_MAC[2..], GATEWAY_ADDRESS.octets());
        assert_eq!(
            GUEST_MAC[0] & 0x03,
            0x02,
            "locally administered, not multicast"
        );
    }

    #[test]
    fn identity_range_ends_are_exact() {
        assert_eq!(identity_address(0), Some(Ipv4Addr::new(10, 213, 0, 2)));
        assert_eq!(
            identity_address(MAX_SLOTS - 1),
            Some(Ipv4Addr::new(10, 213, 255, 254))
        );
        assert_eq!(identity_address(MAX_SLOTS), None);
        assert_eq!(slot_of_identity(Ipv4Addr::new(10, 213, 0, 1)), None);
        assert_eq!(slot_of_identity(Ipv4Addr::new(10, 213, 255, 255)), None);
    }

    proptest! {
        #[test]
        fn identity_round_trips(slot in 0..MAX_SLOTS) {
            let address = identity_address(slot).expect("slot in range");
            prop_assert_eq!(slot_of_identity(address), Some(slot));
        }

        #[test]
        fn mac_round_trips(mac: [u8; 6]) {
            prop_assert_eq!(parse_mac(&format_mac(mac)), Some(mac));
        }

        #[test]
        fn mac_parser_never_panics(text in ".{0,40}") {
            let _ = parse_mac(&text);
        }
    }
}
