//! Connects a stream to a TCP port of the guest.
//!
//! Programs listen where they like, so `127.0.0.1`, `::1` and the guest's own address are tried in this order. Each
//! direction ends on its own: an end of file is passed on as a shutdown while the other direction goes on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one address may take; a loopback connect takes longer only when the listener's backlog is full.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Bytes buffered in each direction.
const BUFFER_LEN: usize = 32 << 10;

/// Why a port cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// Nothing listens on the port.
    #[error("Nothing listens on port {0}.")]
    Refused(u16),
    /// The connection failed otherwise.
    #[error("Port {port} cannot be reached: {error}.")]
    Io {
        /// The port.
        port: u16,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Connects to `port` of the guest; `own` is the guest's own address if it has one.
///
/// # Errors
/// [`TunnelError::Refused`] when every address refuses, [`TunnelError::Io`] when one fails otherwise.
pub async fn connect(port: u16, own: Option<Ipv4Addr>) -> Result<TcpStream, TunnelError> {
    let addresses = [
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        own.map(IpAddr::V4),
    ];
    let mut failure = None;
    for address in addresses.into_iter().flatten() {
        let connected = timeout(
            CONNECT_LIMIT,
            TcpStream::connect(SocketAddr::new(address, port)),
        );
        match connected
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            Ok(stream) => {
                // Small writes of interactive protocols must not wait for more; a failure only costs speed.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) if closed(&error) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(match failure {
        None => TunnelError::Refused(port),
        Some(error) => TunnelError::Io { port, error },
    })
}

/// Whether an error says that nothing listens there, or that the guest has no such address (no IPv6).
fn closed(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(
        error.kind(),
        E::ConnectionRefused | E::AddrNotAvailable | E::NetworkUnreachable
    ) || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// Moves bytes both ways until both directions have ended.
///
/// # Errors
/// The first error of either stream.
pub async fn join<S>(mut stream: S, mut target: TcpStream) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut target, BUFFER_LEN, BUFFER_LEN)
        .await
        .map(|_| ())
}
