//! Frames for tests: built field by field, with checksums computed and verified here and nowhere
//! else, so that the programs are held against an independent reading of the RFCs.

use std::net::Ipv4Addr;

use crate::link::{GATEWAY_ADDRESS, GATEWAY_MAC, GUEST_ADDRESS, GUEST_MAC};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// RFC 1071: the complement of the ones' complement sum.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn pseudo(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: usize) -> Vec<u8> {
    let len = u16::try_from(len).unwrap().to_be_bytes();
    [
        &source.octets()[..],
        &destination.octets(),
        &[0, protocol],
        &len,
    ]
    .concat()
}

/// A frame under construction: what a well-behaved guest sends, until a test changes it.
#[derive(Clone)]
pub struct Frame {
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
    pub ethertype: u16,
    pub version_len: u8,
    pub id: u16,
    pub fragment: u16,
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// Transport header and data, checksum still zero.
    pub payload: Vec<u8>,
    /// Where in the payload the checksum goes; `None` leaves it zero.
    pub checksum_at: Option<usize>,
    /// Whether that checksum covers the addresses.
    pub covers_addresses: bool,
    /// IP total length when it is to be wrong.
    pub total_len: Option<u16>,
}

impl Frame {
    fn ipv4(protocol: u8, destination: Ipv4Addr, payload: Vec<u8>, checksum_at: usize) -> Self {
        Self {
            destination_mac: GATEWAY_MAC,
            source_mac: GUEST_MAC,
            ethertype: 0x0800,
            version_len: 0x45,
            id: 0x1234,
            fragment: 0x4000,
            protocol,
            source: GUEST_ADDRESS,
            destination,
            payload,
            checksum_at: Some(checksum_at),
            covers_addresses: protocol != ICMP,
            total_len: None,
        }
    }

    pub fn tcp(destination: Ipv4Addr, ports: (u16, u16), seq: u32, flags: u8, data: &[u8]) -> Self {
        let mut header = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        header.extend(seq.to_be_bytes());
        header.extend([0, 0, 0, 0, 5 << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        header.extend(data);
        Self::ipv4(TCP, destination, header, 16)
    }

    pub fn udp(destination: Ipv4Addr, ports: (u16, u16), data: &[u8]) -> Self {
        let mut header = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        header.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
        header.extend([0, 0]);
        header.extend(data);
        Self::ipv4(UDP, destination, header, 6)
    }

    pub fn icmp(destination: Ipv4Addr, kind: u8, data: &[u8]) -> Self {
        let mut header = vec![kind, 0, 0, 0, 0, 7, 0, 1];
        header.extend(data);
        Self::ipv4(ICMP, destination, header, 2)
    }

    /// The same packet as one that arrives for the guest: from its peer, to its identity.
    pub fn inbound(mut self, identity: Ipv4Addr) -> Self {
        self.source = self.destination;
        self.destination = identity;
        (self.source_mac, self.destination_mac) = (GATEWAY_MAC, GUEST_MAC);
        self
    }

    /// The IPv4 packet, without Ethernet.
    pub fn packet(&self) -> Vec<u8> {
        let total = u16::try_from(20 + self.payload.len()).unwrap();
        let total = self.total_len.unwrap_or(total).to_be_bytes();
        let mut ip = vec![self.version_len, 0];
        ip.extend(total);
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([64, self.protocol, 0, 0]);
        ip.extend(self.source.octets());
        ip.extend(self.destination.octets());
        let sum = checksum(&[&ip]).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);

        let mut payload = self.payload.clone();
        if let Some(at) = self.checksum_at {
            let covered = if self.covers_addresses {
                pseudo(self.source, self.destination, self.protocol, payload.len())
            } else {
                Vec::new()
            };
            let mut sum = checksum(&[&covered, &payload]);
            if self.protocol == UDP && sum == 0 {
                sum = 0xffff;
            }
            payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        ip.extend(payload);
        ip
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = [self.destination_mac, self.source_mac].concat();
        frame.extend(self.ethertype.to_be_bytes());
        frame.extend(self.packet());
        frame
    }
}

/// An ARP request from the guest, who-has `target`.
pub fn arp_request(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(GUEST_MAC);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(GUEST_MAC);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// The answer it must get.
pub fn arp_reply() -> Vec<u8> {
    let mut frame = GUEST_MAC.to_vec();
    frame.extend(GATEWAY_MAC);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2]);
    frame.extend(GATEWAY_MAC);
    frame.extend(GATEWAY_ADDRESS.octets());
    frame.extend(GUEST_MAC);
    frame.extend(GUEST_ADDRESS.octets());
    frame
}

/// A frame taken apart, its checksums verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub fragment: u16,
    /// Transport header and data.
    pub payload: Vec<u8>,
    /// The transport checksum is right; true as well for UDP without one and for later fragments.
    pub checksum_ok: bool,
}

impl Parsed {
    /// Takes an Ethernet frame with IPv4 apart; panics with what is wrong, as tests want.
    pub fn of(frame: &[u8]) -> Self {
        assert_eq!(frame[12..14], [0x08, 0x00], "not IPv4: {frame:x?}");
        Self::of_packet(&frame[14..])
    }

    pub fn of_packet(ip: &[u8]) -> Self {
        assert_eq!(ip[0], 0x45);
        assert_eq!(checksum(&[&ip[..20]]), 0, "IP header checksum");
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        let (source, destination, protocol) = (address(12), address(16), ip[9]);
        let fragment = u16::from_be_bytes([ip[6], ip[7]]);
        let payload = ip[20..total].to_vec();
        let covered = pseudo(source, destination, protocol, payload.len());
        let checksum_ok = match protocol {
            _ if fragment & 0x3fff != 0 => true,
            UDP if payload[6..8] == [0, 0] => true,
            TCP | UDP => checksum(&[&covered, &payload]) == 0,
            _ => checksum(&[&payload]) == 0,
        };
        Self {
            source,
            destination,
            protocol,
            fragment,
            payload,
            checksum_ok,
        }
    }

    pub fn ports(&self) -> (u16, u16) {
        let word = |at: usize| u16::from_be_bytes([self.payload[at], self.payload[at + 1]]);
        (word(0), word(2))
    }

    pub fn tcp_flags(&self) -> u8 {
        self.payload[13]
    }

    pub fn tcp_number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

#[test]
fn checksum_of_the_example_in_rfc_1071() {
    assert_eq!(
        checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
        !0xddf2
    );
}

#[test]
fn built_frames_verify() {
    let peer = Ipv4Addr::new(203, 0, 113, 9);
    for frame in [
        Frame::tcp(peer, (1000, 80), 1, SYN, b"odd"),
        Frame::udp(peer, (1000, 53), b"question"),
        Frame::icmp(peer, 8, b"ping"),
    ] {
        let parsed = Parsed::of(&frame.bytes());
        assert!(parsed.checksum_ok);
        assert_eq!((parsed.source, parsed.destination), (GUEST_ADDRESS, peer));
    }
}
