//! The few rtnetlink(7) requests that a static network needs.
//!
//! ```text
//!   request = nlmsghdr (16 bytes) · family header · attributes (u16 length, u16 type, value, padded to 4 bytes)
//!   reply   = nlmsghdr · i32 negative errno, 0 for success
//! ```
//!
//! Encoding is pure; [`Route::send`] is the socket. All requests say "create or replace", so that doing them again
//! changes nothing.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;

const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

const HEADER_LEN: usize = 16;

/// Why the kernel's network is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The netlink socket fails.
    #[error("The netlink socket fails: {0}.")]
    Socket(#[source] io::Error),
    /// The kernel refuses a request.
    #[error("The kernel refuses to {what}: {error}.")]
    Refused {
        /// The request.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel's answer is not understood.
    #[error("The kernel's answer is not understood.")]
    Malformed,
}

/// A request to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    what: &'static str,
    bytes: Vec<u8>,
}

impl Request {
    /// Brings an interface up.
    pub fn link_up(index: u32) -> Self {
        let mut body = Vec::new();
        // ifinfomsg: family, padding, device type, index, flags, which flags change.
        body.extend([AF_UNSPEC, 0, 0, 0]);
        body.extend(index.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        Self::new("bring the interface up", RTM_NEWLINK, 0, body)
    }

    /// Gives an interface an address.
    pub fn address(index: u32, address: Ipv4Addr, prefix: u8) -> Self {
        // ifaddrmsg: family, prefix length, flags, scope, index.
        let mut body = vec![AF_INET, prefix, 0, RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &address.octets());
        attribute(&mut body, IFA_ADDRESS, &address.octets());
        Self::new(
            "set the address",
            RTM_NEWADDR,
            NLM_F_CREATE | NLM_F_REPLACE,
            body,
        )
    }

    /// Sends everything without a better route to `gateway`.
    pub fn default_route(index: u32, gateway: Ipv4Addr) -> Self {
        // rtmsg: family, destination and source lengths, type of service, table, protocol, scope, type, flags.
        let mut body = vec![
            AF_INET,
            0,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_STATIC,
            RT_SCOPE_UNIVERSE,
            RTN_UNICAST,
        ];
        body.extend(0u32.to_ne_bytes());
        attribute(&mut body, RTA_GATEWAY, &gateway.octets());
        attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
        Self::new(
            "set the default route",
            RTM_NEWROUTE,
            NLM_F_CREATE | NLM_F_REPLACE,
            body,
        )
    }

    /// Enters a permanent neighbour, so that nothing is asked by ARP.
    pub fn neighbour(index: u32, address: Ipv4Addr, mac: [u8; 6]) -> Self {
        // ndmsg: family, padding, index, state, flags, type.
        let mut body = vec![AF_INET, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(NUD_PERMANENT.to_ne_bytes());
        body.extend([0, 0]);
        attribute(&mut body, NDA_DST, &address.octets());
        attribute(&mut body, NDA_LLADDR, &mac);
        Self::new(
            "enter the gateway as neighbour",
            RTM_NEWNEIGH,
            NLM_F_CREATE | NLM_F_REPLACE,
            body,
        )
    }

    fn new(what: &'static str, kind: u16, flags: u16, body: Vec<u8>) -> Self {
        // The bodies above are less than 100 bytes long.
        let length = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_LEN + body.len());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        // Sequence number and port: one request at a time needs neither.
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self { what, bytes }
    }
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The errno in the kernel's answer, 0 for success; `None` when it is no answer.
fn parse_answer(bytes: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(bytes.get(HEADER_LEN..HEADER_LEN + 4)?.try_into().ok()?);
    (kind == NLMSG_ERROR && code <= 0).then(|| code.saturating_neg())
}

/// A socket to the kernel's routing tables.
#[derive(Debug)]
pub struct Route {
    socket: OwnedFd,
}

impl Route {
    /// Opens the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let flags = SocketFlags::CLOEXEC;
        // No protocol is number 0, NETLINK_ROUTE.
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)
            .map(|socket| Self { socket })
            .map_err(|error| NetlinkError::Socket(error.into()))
    }

    /// Sends a request and waits for the kernel's answer, which is there at once.
    pub fn send(&self, request: &Request) -> Result<(), NetlinkError> {
        let socket = |error: rustix::io::Errno| NetlinkError::Socket(error.into());
        rustix::net::send(&self.socket, &request.bytes, SendFlags::empty()).map_err(socket)?;
        let mut answer = [0; 512];
        let (length, _) =
            rustix::net::recv(&self.socket, &mut answer, RecvFlags::empty()).map_err(socket)?;
        match answer.get(..length).and_then(parse_answer) {
            Some(0) => Ok(()),
            Some(errno) => Err(NetlinkError::Refused {
                what: request.what,
                error: io::Error::from_raw_os_error(errno),
            }),
            None => Err(NetlinkError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn requests_have_the_kernels_layout() {
        let hex = |request: &Request| {
            request
                .bytes
                .chunks(4)
                .map(|word| format!("{:02x?}", word))
                .collect::<Vec<_>>()
                .join("\n")
        };
        insta::assert_snapshot!(hex(&Request::address(2, Ipv4Addr::new(169, 254, 100, 2), 30)), @"
        [28, 00, 00, 00]
        [14, 00, 05, 05]
        [00, 00, 00, 00]
        [00, 00, 00, 00]
        [02, 1e, 00, 00]
        [02, 00, 00, 00]
        [08, 00, 02, 00]
        [a9, fe, 64, 02]
        [08, 00, 01, 00]
        [a9, fe, 64, 02]
        ");
        insta::assert_snapshot!(
            hex(&Request::neighbour(2, Ipv4Addr::new(169, 254, 100, 1), [6, 0, 0xa9, 0xfe, 0x64, 1])),
            @"
        [30, 00, 00, 00]
        [1c, 00, 05, 05]
        [00, 00, 00, 00]
        [00, 00, 00, 00]
        [02, 00, 00, 00]
        [02, 00, 00, 00]
        [80, 00, 00, 00]
        [08, 00, 01, 00]
        [a9, fe, 64, 01]
        [0a, 00, 02, 00]
        [06, 00, a9, fe]
        [64, 01, 00, 00]
        "
        );
    }

    /// The kernel itself judges the requests, in a network namespace of its own that goes away with the thread.
    #[test]
    fn the_kernel_takes_the_requests() {
        let judged = std::thread::spawn(|| {
            let flags = rustix::thread::UnshareFlags::NEWNET;
            // SAFETY: only this thread's network namespace changes, and the thread ends with the test.
            if let Err(error) = unsafe { rustix::thread::unshare_unsafe(flags) } {
                eprintln!("not tried: this host gives no network namespace ({error})");
                return;
            }
            let route = Route::open().expect("a socket");
            // In a new namespace the loopback device is always number 1.
            let (address, gateway) = (Ipv4Addr::new(10, 9, 8, 2), Ipv4Addr::new(10, 9, 8, 1));
            for _ in 0..2 {
                route.send(&Request::link_up(1)).expect("up");
                route
                    .send(&Request::address(1, address, 30))
                    .expect("address");
                route
                    .send(&Request::default_route(1, gateway))
                    .expect("route");
            }
            let routes = std::fs::read_to_string("/proc/thread-self/net/route").expect("routes");
            assert!(
                routes.contains("0108090A"),
                "default route to the gateway: {routes}"
            );
            std::net::TcpListener::bind((address, 0)).expect("the address is ours");
            assert!(matches!(
                route.send(&Request::link_up(999)),
                Err(NetlinkError::Refused {
                    what: "bring the interface up",
                    ..
                })
            ));
        });
        judged.join().expect("no failure");
    }

    proptest! {
        #[test]
        fn answers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_answer(&bytes);
        }

        #[test]
        fn lengths_are_consistent(index: u32, address: [u8; 4], prefix in 0u8..=32, mac: [u8; 6]) {
            for request in [
                Request::link_up(index),
                Request::address(index, address.into(), prefix),
                Request::default_route(index, address.into()),
                Request::neighbour(index, address.into(), mac),
            ] {
                let length = u32::from_ne_bytes(request.bytes[..4].try_into().expect("4 bytes"));
                prop_assert_eq!(usize::try_from(length).expect("fits"), request.bytes.len());
                prop_assert_eq!(request.bytes.len() % 4, 0);
            }
        }
    }
}
