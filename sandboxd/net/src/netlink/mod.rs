//! The few netlink requests the TAP pool needs, and the socket that carries them.
//!
//! ```text
//!   Request ──encode──► bytes ──► kernel ──► acknowledgement or links
//! ```
//!
//! Encoding and decoding are pure (`message`); this half opens a socket a call, so that it works in
//! whatever network namespace the calling thread is in.

mod message;

use std::io;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::netlink as family;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use message::{Answer, answers};
pub use message::{Link, Request};

/// The kernel answers at once; this only bounds a wait for an answer that never comes.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than the largest datagram the kernel sends for these requests.
const BUFFER: usize = 64 * 1024;

/// Sends a request and waits for its acknowledgement.
///
/// # Errors
/// The kernel's answer, as its `errno`.
pub fn call(request: &Request<'_>) -> io::Result<()> {
    exchange(request).map(drop)
}

/// Lists all interfaces of this network namespace.
///
/// # Errors
/// The kernel's answer, as its `errno`.
pub fn links() -> io::Result<Vec<Link>> {
    exchange(&Request::ListLinks)
}

/// Number of an interface of this network namespace.
///
/// # Errors
/// `ENODEV` when there is none of that name.
pub fn index_of(name: &str) -> io::Result<u32> {
    let any = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(rustix::net::netdevice::name_to_index(&any, name)?)
}

fn exchange(request: &Request<'_>) -> io::Result<Vec<Link>> {
    let socket = open(request)?;
    let bytes = message::encode(request, 1);
    let sent = rustix::net::send(&socket, &bytes, SendFlags::empty())?;
    if sent != bytes.len() {
        return Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "a netlink request was cut",
        ));
    }
    let mut links = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let (_, len) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::TRUNC)?;
        let datagram = buffer
            .get(..len)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer is too long"))?;
        for answer in answers(datagram) {
            match answer {
                Answer::Done => return Ok(links),
                Answer::Failed(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Answer::Link(link) => links.push(link),
                Answer::Other => {}
            }
        }
    }
}

fn open(request: &Request<'_>) -> io::Result<OwnedFd> {
    let protocol = match request {
        Request::ForgetFlows { .. } => Some(family::NETFILTER),
        // Protocol 0 of this family is routing.
        _ => None,
    };
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_listed() {
        let links = links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").expect("lo");
        assert_eq!(lo.index, 1);
    }

    #[test]
    fn a_refusal_comes_back_as_its_errno() {
        let error = call(&Request::DeleteLink { index: i32::MAX }).unwrap_err();
        assert!(
            matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)),
            "{error}"
        );
    }
}
