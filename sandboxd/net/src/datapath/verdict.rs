//! What the programs decide, counted by interface.

use serde::Serialize;

use super::abi::{RawCounters, VERDICTS};

/// What became of a packet; the numbers are those of `enum verdict` in `bpf/types.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Verdict {
    /// From the guest, allowed and translated.
    Passed = 0,
    /// To the guest, allowed and translated.
    Delivered = 1,
    /// The guest asked for its gateway's MAC address and got it.
    ArpAnswered = 2,
    /// Refused by the sandbox's policy.
    Denied = 3,
    /// Refused because no policy opens that range.
    Blocked = 4,
    /// A denied or blocked TCP SYN that was answered with RST; counted beside its reason.
    Reset = 5,
    /// Not from the guest's MAC address, or not to the gateway's.
    SpoofedMac = 6,
    /// Not from the guest's address.
    SpoofedSource = 7,
    /// IPv6, VLAN, ARP other than for the gateway, anything else.
    NotIpv4 = 8,
    /// Truncated, wrong lengths, IP options.
    Malformed = 9,
    /// Fragmented TCP.
    Fragment = 10,
    /// Neither TCP, UDP nor ICMP echo.
    Protocol = 11,
    /// Towards the guest, but not for it or not from a peer it may talk with.
    Foreign = 12,
    /// The policy was replaced while it was applied.
    PolicyChanged = 13,
}

impl Verdict {
    /// All verdicts by number.
    pub const ALL: [Self; VERDICTS] = [
        Self::Passed,
        Self::Delivered,
        Self::ArpAnswered,
        Self::Denied,
        Self::Blocked,
        Self::Reset,
        Self::SpoofedMac,
        Self::SpoofedSource,
        Self::NotIpv4,
        Self::Malformed,
        Self::Fragment,
        Self::Protocol,
        Self::Foreign,
        Self::PolicyChanged,
    ];

    /// The verdict with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Stable name for metrics, `snake_case`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Delivered => "delivered",
            Self::ArpAnswered => "arp_answered",
            Self::Denied => "denied",
            Self::Blocked => "blocked",
            Self::Reset => "reset",
            Self::SpoofedMac => "spoofed_mac",
            Self::SpoofedSource => "spoofed_source",
            Self::NotIpv4 => "not_ipv4",
            Self::Malformed => "malformed",
            Self::Fragment => "fragment",
            Self::Protocol => "protocol",
            Self::Foreign => "foreign",
            Self::PolicyChanged => "policy_changed",
        }
    }
}

/// A sandbox's counters since its slot was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters(pub(crate) RawCounters);

impl Counters {
    /// Packets with this verdict.
    #[must_use]
    pub fn packets(&self, verdict: Verdict) -> u64 {
        self.0.packets.get(verdict as usize).copied().unwrap_or(0)
    }

    /// Bytes of packets that passed, Ethernet header included.
    #[must_use]
    pub fn bytes_from_guest(&self) -> u64 {
        self.0.bytes_from_guest
    }

    /// Bytes of packets that were delivered, Ethernet header included.
    #[must_use]
    pub fn bytes_to_guest(&self) -> u64 {
        self.0.bytes_to_guest
    }

    /// The verdicts that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::ALL
            .into_iter()
            .map(|v| (v, self.packets(v)))
            .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_index_the_list() {
        for (number, verdict) in (0..).zip(Verdict::ALL) {
            assert_eq!(verdict as u8, number);
            assert_eq!(Verdict::from_number(number), Some(verdict));
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
        assert_eq!(Verdict::from_number(14), None);
    }
}
