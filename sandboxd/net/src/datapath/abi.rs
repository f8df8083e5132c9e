//! Values of the maps as the programs see them: the twin of `bpf/types.h`.
//!
//! A leaf module: unsafe is the promise to aya that these types are plain data.

use std::net::Ipv4Addr;

use aya::Pod;

/// Scope of the rules that hold for every sandbox.
pub const SCOPE_DAEMON: u32 = 0;
/// Denials are written to the ring buffer.
pub const SLOT_EVENTS: u32 = 1;
/// Number of verdicts.
pub const VERDICTS: usize = 14;

/// An address in network byte order, as it lies in packets.
#[must_use]
pub fn wire(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// `struct slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// Scope of its rules.
    pub scope: u32,
    /// Its identity in network byte order.
    pub identity: u32,
    /// `RULE_DENY` or `RULE_ALLOW`.
    pub default_rule: u32,
    /// `SLOT_*`.
    pub flags: u32,
}

/// `struct rule_key` without its prefix length, which aya keeps itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RuleKey {
    /// Scope, always matched whole.
    pub scope: u32,
    /// Address in network byte order.
    pub address: u32,
}

/// `struct counters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RawCounters {
    /// Packets by verdict.
    pub packets: [u64; VERDICTS],
    /// Bytes of packets that passed.
    pub bytes_from_guest: u64,
    /// Bytes of packets that were delivered.
    pub bytes_to_guest: u64,
}

// SAFETY: C layout, integers only, no padding (checked below), any bit pattern is valid.
unsafe impl Pod for Slot {}
// SAFETY: as above.
unsafe impl Pod for RuleKey {}
// SAFETY: as above.
unsafe impl Pod for RawCounters {}

const _: () = assert!(size_of::<Slot>() == 16);
const _: () = assert!(size_of::<RuleKey>() == 8);
const _: () = assert!(size_of::<RawCounters>() == 8 * (VERDICTS + 2));

/// `struct event`, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// Interface it happened on.
    pub ifindex: u32,
    /// The other end.
    pub remote: Ipv4Addr,
    /// Its port, 0 where there is none.
    pub remote_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// `enum verdict`.
    pub verdict: u8,
}

impl RawEvent {
    /// Bytes of a record.
    pub const LEN: usize = 24;

    /// Decodes a record; `None` when it has another length.
    #[must_use]
    pub fn decode(record: &[u8]) -> Option<Self> {
        let record: &[u8; Self::LEN] = record.try_into().ok()?;
        let (time, rest) = record.split_first_chunk::<8>()?;
        let (ifindex, rest) = rest.split_first_chunk::<4>()?;
        let (remote, rest) = rest.split_first_chunk::<4>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        Some(Self {
            time_ns: u64::from_ne_bytes(*time),
            ifindex: u32::from_ne_bytes(*ifindex),
            remote: Ipv4Addr::from(*remote),
            remote_port: u16::from_be_bytes(*port),
            protocol: *rest.first()?,
            verdict: *rest.get(1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Verdict;
    use crate::link;
    use crate::policy::Rule;
    use proptest::prelude::*;

    const HEADER: &str = include_str!("../../bpf/types.h");

    fn constant(name: &str) -> u64 {
        let line = HEADER
            .lines()
            .find(|line| line.split_whitespace().take(2).any(|word| word == name))
            .unwrap_or_else(|| panic!("{name} is not in types.h"));
        let after = &line[line.find(name).unwrap() + name.len()..];
        let value: String = after
            .trim_start_matches([' ', '='])
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        let value = value.trim_end_matches('u');
        value.strip_prefix("0x").map_or_else(
            || value.parse().unwrap(),
            |hex| u64::from_str_radix(hex, 16).unwrap(),
        )
    }

    #[test]
    fn numbers_agree_with_the_header() {
        assert_eq!(constant("SCOPE_DAEMON"), u64::from(SCOPE_DAEMON));
        assert_eq!(constant("SLOT_EVENTS"), u64::from(SLOT_EVENTS));
        assert_eq!(constant("VERDICT_COUNT"), VERDICTS as u64);
        for (name, rule) in [
            ("RULE_DENY", Rule::Deny),
            ("RULE_ALLOW", Rule::Allow),
            ("RULE_BLOCK", Rule::Block),
            ("RULE_EXEMPT", Rule::Exempt),
        ] {
            assert_eq!(constant(name), rule as u64, "{name}");
        }
        for verdict in Verdict::ALL {
            let name = format!("VERDICT_{}", verdict.name().to_uppercase());
            assert_eq!(constant(&name), verdict as u64, "{name}");
        }
        assert_eq!(
            constant("GUEST_ADDRESS"),
            u64::from(u32::from(link::GUEST_ADDRESS))
        );
        assert_eq!(
            constant("GATEWAY_ADDRESS"),
            u64::from(u32::from(link::GATEWAY_ADDRESS))
        );
        for (name, mac) in [
            ("GUEST_MAC", link::GUEST_MAC),
            ("GATEWAY_MAC", link::GATEWAY_MAC),
        ] {
            let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:#04x}")).collect();
            assert!(
                HEADER.contains(&format!("{name} {{ {} }}", bytes.join(", "))),
                "{name}"
            );
        }
    }

    #[test]
    fn addresses_are_put_in_network_order() {
        assert_eq!(wire(Ipv4Addr::new(1, 2, 3, 4)).to_ne_bytes(), [1, 2, 3, 4]);
    }

    proptest! {
        #[test]
        fn any_record_is_taken(record in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(RawEvent::decode(&record).is_some(), record.len() == RawEvent::LEN);
        }
    }
}
