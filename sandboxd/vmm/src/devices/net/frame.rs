//! What a frame of the guest must look like before it leaves.
//!
//! ```text
//!   0 flags │ 1 gso_type │ 2 hdr_len u16 │ 4 gso_size u16 │ 6 csum_start u16 │ 8 csum_offset u16 │ 10 num_buffers u16
//!   12 destination MAC │ 18 source MAC │ 24 EtherType or VLAN tag │ …
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of `struct virtio_net_hdr_v1`.
pub const HEADER: usize = 12;
/// Header and Ethernet addresses and type: what is copied and checked.
pub const HEAD: usize = HEADER + 14;
/// [`HEAD`] as an offset in a chain.
pub const HEAD_LEN: u32 = 26;
/// Where the device puts the number of chains that a received frame takes.
pub const NUM_BUFFERS: u32 = 10;

const SOURCE: std::ops::Range<usize> = 18..24;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// The device checks frames of guests that agreed to leave checksums to it.
pub const F_CSUM: u64 = 1 << 0;
/// The device takes TCP over IPv4 in pieces larger than a frame.
pub const F_HOST_TSO4: u64 = 1 << 11;
/// The device takes TCP over IPv6 in pieces larger than a frame.
pub const F_HOST_TSO6: u64 = 1 << 12;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Why a frame of the guest is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The frame names another sender.
    #[error("the frame comes from {0}, which is not the card's address")]
    Spoofed(Mac),
    /// The frame asks for an offload that was not agreed on.
    #[error("the frame asks for segmentation of type {0:#x}, which was not agreed on")]
    Offload(u8),
}

/// Checks the head of a frame and clears what the guest has no say in. `features` are those agreed on.
///
/// # Errors
/// Why the frame must not leave.
pub fn check(head: &mut [u8; HEAD], mac: Mac, features: u64) -> Result<(), Refusal> {
    let mut source = [0; 6];
    source.copy_from_slice(&head[SOURCE]);
    if source != mac.0 {
        return Err(Refusal::Spoofed(Mac(source)));
    }
    let allowed = match head[1] {
        GSO_NONE => true,
        GSO_TCPV4 => features & F_HOST_TSO4 != 0,
        GSO_TCPV6 => features & F_HOST_TSO6 != 0,
        _ => false,
    };
    if !allowed {
        return Err(Refusal::Offload(head[1]));
    }
    if features & F_CSUM == 0 {
        head[..HEADER].fill(0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac([6, 0, 0xa9, 0xfe, 0x64, 2]);
    const ALL: u64 = F_CSUM | F_HOST_TSO4 | F_HOST_TSO6;

    fn head(gso_type: u8) -> [u8; HEAD] {
        let mut head = [7; HEAD];
        head[1] = gso_type;
        head[SOURCE].copy_from_slice(&MAC.0);
        head
    }

    #[test]
    fn another_sender_is_refused() {
        let mut head = head(0);
        head[23] = 3;
        let refusal = check(&mut head, MAC, ALL).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the frame comes from 06:00:a9:fe:64:03, which is not the card's address"
        );
    }

    #[test]
    fn only_agreed_offloads_pass() {
        for (gso_type, needs) in [(0, 0), (1, F_HOST_TSO4), (4, F_HOST_TSO6)] {
            let mut plain = head(gso_type);
            assert_eq!(check(&mut plain, MAC, ALL), Ok(()));
            assert_eq!(plain, head(gso_type), "nothing is changed");
            let verdict = check(&mut head(gso_type), MAC, ALL & !needs);
            assert_eq!(verdict.is_ok(), needs == 0);
        }
        for gso_type in [2, 3, 5, 0x80, 0x81, 0xff] {
            assert_eq!(
                check(&mut head(gso_type), MAC, ALL),
                Err(Refusal::Offload(gso_type))
            );
        }
    }

    #[test]
    fn without_checksum_offload_the_header_means_nothing() {
        let mut plain = head(0);
        check(&mut plain, MAC, 0).unwrap();
        assert_eq!(plain[..HEADER], [0; HEADER]);
        assert_eq!(plain[HEADER..], head(0)[HEADER..]);
    }

    proptest! {
        #[test]
        fn addresses_are_never_changed(bytes: [u8; HEAD], ours: bool, features: u64) {
            let mut head = bytes;
            if ours {
                head[SOURCE].copy_from_slice(&MAC.0);
            }
            let before = head;
            if check(&mut head, MAC, features).is_ok() {
                prop_assert_eq!(&head[SOURCE], &MAC.0);
            }
            prop_assert_eq!(&head[HEADER..], &before[HEADER..]);
        }
    }
}
