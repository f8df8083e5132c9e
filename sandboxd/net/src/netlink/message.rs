//! Netlink messages, written and read. Pure.
//!
//! ```text
//!   u32 length │ u16 type │ u16 flags │ u32 sequence │ u32 port │ fixed part │ attributes…
//!   attribute: u16 length │ u16 type │ value, padded to 4
//! ```
//!
//! Sources: Documentation/userspace-api/netlink/intro.rst, rtnetlink(7), linux/rtnetlink.h,
//! linux/neighbour.h, linux/netfilter/nfnetlink_conntrack.h. Numbers are in host byte order except
//! those of netfilter, which are in network order.

use std::net::Ipv4Addr;

const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;
const F_REPLACE: u16 = 0x100;
const F_CREATE: u16 = 0x400;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_NEIGHBOUR: u16 = 28;
/// Subsystem 1 (conntrack), message 2 (delete).
const DELETE_FLOWS: u16 = 1 << 8 | 2;

const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_QUEUE_LEN: u16 = 13;
const LINK_ALIAS: u16 = 20;
const FLAG_UP: u32 = 1;

const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// All interfaces.
    ListLinks,
    /// Gives an interface its properties and brings it up.
    SetUp {
        /// Interface.
        index: i32,
        /// MAC address.
        mac: [u8; 6],
        /// Largest IP packet, in bytes.
        mtu: u32,
        /// Frames that may wait for the guest.
        queue_len: u32,
        /// Free text by which it is known again, at most 255 bytes.
        alias: &'a str,
    },
    /// Removes an interface.
    DeleteLink {
        /// Interface.
        index: i32,
    },
    /// Makes an address one of this host's.
    Address {
        /// The address.
        address: Ipv4Addr,
        /// Interface that it goes with.
        index: i32,
    },
    /// Sends packets for one address through an interface.
    Route {
        /// Destination.
        address: Ipv4Addr,
        /// Interface.
        index: i32,
    },
    /// Fixes the MAC address behind an IP address.
    Neighbour {
        /// The IP address.
        address: Ipv4Addr,
        /// Interface.
        index: i32,
        /// The MAC address.
        mac: [u8; 6],
    },
    /// Forgets all tracked connections that this address began.
    ForgetFlows {
        /// The address.
        source: Ipv4Addr,
    },
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Number of the interface in its namespace.
    pub index: i32,
    /// Its name.
    pub name: String,
    /// Its alias, empty when it has none.
    pub alias: String,
}

/// Writes a request.
pub fn encode(request: &Request<'_>, sequence: u32) -> Vec<u8> {
    let (kind, flags) = match request {
        Request::ListLinks => (GET_LINK, F_DUMP),
        Request::SetUp { .. } => (SET_LINK, F_ACK),
        Request::DeleteLink { .. } => (DELETE_LINK, F_ACK),
        Request::Address { .. } => (NEW_ADDRESS, F_ACK | F_CREATE | F_REPLACE),
        Request::Route { .. } => (NEW_ROUTE, F_ACK | F_CREATE | F_REPLACE),
        Request::Neighbour { .. } => (NEW_NEIGHBOUR, F_ACK | F_CREATE | F_REPLACE),
        Request::ForgetFlows { .. } => (DELETE_FLOWS, F_ACK),
    };
    let mut out = Writer(vec![0; HEADER]);
    match *request {
        Request::ListLinks => out.link(0, 0),
        Request::SetUp {
            index,
            mac,
            mtu,
            queue_len,
            alias,
        } => {
            out.link(index, FLAG_UP);
            out.attribute(LINK_ADDRESS, &mac);
            out.attribute(LINK_MTU, &mtu.to_ne_bytes());
            out.attribute(LINK_QUEUE_LEN, &queue_len.to_ne_bytes());
            out.attribute(LINK_ALIAS, alias.as_bytes());
        }
        Request::DeleteLink { index } => out.link(index, 0),
        Request::Address { address, index } => {
            // struct ifaddrmsg: IPv4, 32 bits, no flags, scope host, interface.
            out.0.extend([2, 32, 0, 254]);
            out.0.extend(index.to_ne_bytes());
            out.attribute(1, &address.octets());
            out.attribute(2, &address.octets());
        }
        Request::Route { address, index } => {
            // struct rtmsg: IPv4, 32 bits, table main, static, scope link, unicast.
            out.0.extend([2, 32, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0]);
            out.attribute(1, &address.octets());
            out.attribute(4, &index.to_ne_bytes());
        }
        Request::Neighbour {
            address,
            index,
            mac,
        } => {
            // struct ndmsg: IPv4, interface, permanent.
            out.0.extend([2, 0, 0, 0]);
            out.0.extend(index.to_ne_bytes());
            out.0.extend(0x80_u16.to_ne_bytes());
            out.0.extend([0, 1]);
            out.attribute(1, &address.octets());
            out.attribute(2, &mac);
        }
        Request::ForgetFlows { source } => {
            // struct nfgenmsg: IPv4, version 0.
            out.0.extend([2, 0, 0, 0]);
            // The original direction's tuple, of which the filter compares the source alone.
            out.nested(1, |out| {
                out.nested(1, |out| out.attribute(1, &source.octets()))
            });
            out.nested(25, |out| out.attribute(1, &1_u32.to_ne_bytes()));
        }
    }
    let mut bytes = out.0;
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(F_REQUEST | flags).to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes
}

struct Writer(Vec<u8>);

impl Writer {
    /// struct ifinfomsg.
    fn link(&mut self, index: i32, flags: u32) {
        self.0.extend([0; 4]);
        self.0.extend(index.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        fill(&mut inner);
        self.attribute(kind | NESTED, &inner.0);
    }
}

/// What the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Acknowledged, or the end of a list.
    Done,
    /// Refused.
    Failed(i32),
    /// One interface of a list.
    Link(Link),
    /// Something that was not asked for.
    Other,
}

/// Reads a datagram of the kernel; what does not parse ends it.
pub fn answers(datagram: &[u8]) -> impl Iterator<Item = Answer> + '_ {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(rest, 0)?).ok()?;
        let message = rest.get(..len).filter(|message| message.len() >= HEADER)?;
        let kind = u16_at(message, 4)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        let body = message.get(HEADER..)?;
        Some(match kind {
            DONE => Answer::Done,
            ERROR => match u32_at(body, 0)?.cast_signed() {
                0 => Answer::Done,
                errno => Answer::Failed(errno.saturating_neg()),
            },
            NEW_LINK => link(body).map_or(Answer::Other, Answer::Link),
            _ => Answer::Other,
        })
    })
}

fn link(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: u32_at(body, 4)?.cast_signed(),
        ..Link::default()
    };
    let mut rest = body.get(16..)?;
    while let Some(len) = u16_at(rest, 0).map(usize::from) {
        let Some(value) = rest.get(4..len) else { break };
        let text = || {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            String::from_utf8_lossy(text).into_owned()
        };
        match u16_at(rest, 2)? & TYPE_MASK {
            LINK_NAME => link.name = text(),
            LINK_ALIAS => link.alias = text(),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(link)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at.checked_add(2)?)?
        .try_into()
        .ok()
        .map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at.checked_add(4)?)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(bytes: &[u8]) -> Vec<String> {
        bytes
            .chunks(4)
            .map(|word| {
                word.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect()
    }

    #[test]
    fn an_address_is_written_as_the_kernel_reads_it() {
        let address = Ipv4Addr::new(198, 18, 0, 7);
        let bytes = encode(&Request::Address { address, index: 7 }, 1);
        insta::assert_snapshot!(words(&bytes).join("\n"), @"
        28 00 00 00
        14 00 05 05
        01 00 00 00
        00 00 00 00
        02 20 00 fe
        07 00 00 00
        08 00 01 00
        c6 12 00 07
        08 00 02 00
        c6 12 00 07
        ");
    }

    #[test]
    fn set_up_is_written_as_the_kernel_reads_it() {
        let request = Request::SetUp {
            index: 7,
            mac: [6, 0, 1, 2, 3, 4],
            mtu: 1500,
            queue_len: 512,
            alias: "sandboxd:ab",
        };
        insta::assert_debug_snapshot!(words(&encode(&request, 1)), @r#"
        [
            "4c 00 00 00",
            "13 00 05 00",
            "01 00 00 00",
            "00 00 00 00",
            "00 00 00 00",
            "07 00 00 00",
            "01 00 00 00",
            "01 00 00 00",
            "0a 00 01 00",
            "06 00 01 02",
            "03 04 00 00",
            "08 00 04 00",
            "dc 05 00 00",
            "08 00 0d 00",
            "00 02 00 00",
            "0f 00 14 00",
            "73 61 6e 64",
            "62 6f 78 64",
            "3a 61 62 00",
        ]
        "#);
    }

    #[test]
    fn forget_flows_nests_its_attributes() {
        let request = Request::ForgetFlows {
            source: Ipv4Addr::new(10, 213, 0, 2),
        };
        insta::assert_debug_snapshot!(words(&encode(&request, 1)), @r#"
        [
            "30 00 00 00",
            "02 01 05 00",
            "01 00 00 00",
            "00 00 00 00",
            "02 00 00 00",
            "10 00 01 80",
            "0c 00 01 80",
            "08 00 01 00",
            "0a d5 00 02",
            "0c 00 19 80",
            "08 00 01 00",
            "01 00 00 00",
        ]
        "#);
    }

    #[test]
    fn an_acknowledgement_and_a_refusal() {
        let error = |errno: i32| {
            let mut bytes = 36_u32.to_ne_bytes().to_vec();
            bytes.extend(ERROR.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(errno.to_ne_bytes());
            bytes.extend([0; 16]);
            bytes
        };
        assert_eq!(answers(&error(0)).collect::<Vec<_>>(), [Answer::Done]);
        assert_eq!(
            answers(&error(-17)).collect::<Vec<_>>(),
            [Answer::Failed(17)]
        );
    }

    proptest! {
        #[test]
        fn links_survive_the_wire(index in any::<i32>(), name in "[a-z0-9]{1,15}", alias in "[a-z:]{0,40}") {
            let mut out = Writer(vec![0; HEADER]);
            out.link(index, 0);
            out.attribute(LINK_NAME, format!("{name}\0").as_bytes());
            out.attribute(LINK_MTU, &[0; 4]);
            out.attribute(LINK_ALIAS, alias.as_bytes());
            let mut bytes = out.0;
            let len = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            bytes[4..6].copy_from_slice(&NEW_LINK.to_ne_bytes());
            let read: Vec<Answer> = answers(&bytes).collect();
            prop_assert_eq!(read, [Answer::Link(Link { index, name, alias })]);
        }

        #[test]
        fn any_datagram_is_taken_and_comes_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(answers(&bytes).count() <= bytes.len());
        }
    }
}
