//! The header before the first byte of a connection to a service (PROXY protocol, version 2). Pure.
//!
//! ```text
//!   0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A │ 21 │ 11 │ length │ source, destination: 4 + 4 │ ports: 2 + 2 │ E5 │ length │ sandbox id
//!   signature                             v2,  TCP    u16                                                own type
//!                                        PROXY over IPv4
//! ```
//!
//! Source: haproxy, doc/proxy-protocol.txt, 2.2. Types E0 to EF are for applications' own use (2.2.7).

use std::net::SocketAddrV4;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_COMMAND: u8 = 0x21;
/// TCP over IPv4.
const FAMILY: u8 = 0x11;
/// Type of the value that is the sandbox's id.
pub const SANDBOX_ID: u8 = 0xE5;

/// The header of a connection that `source`, which is the sandbox `id`, made to `destination`.
pub fn encode(source: SocketAddrV4, destination: SocketAddrV4, id: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + id.len());
    body.extend(source.ip().octets());
    body.extend(destination.ip().octets());
    body.extend(source.port().to_be_bytes());
    body.extend(destination.port().to_be_bytes());
    body.push(SANDBOX_ID);
    body.extend(length(id.len()));
    body.extend(id.as_bytes());
    let mut header = SIGNATURE.to_vec();
    header.extend([VERSION_COMMAND, FAMILY]);
    header.extend(length(body.len()));
    header.extend(body);
    header
}

/// Ids have a few dozen bytes.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_on_the_wire() {
        let header = encode(
            "10.213.0.2:40001".parse().unwrap(),
            "198.18.0.7:80".parse().unwrap(),
            "iabc",
        );
        insta::assert_snapshot!(
            hex::encode(header),
            @"0d0a0d0a000d0a515549540a211100130ad50002c61200079c410050e5000469616263"
        );
    }
}
