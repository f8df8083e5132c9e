//! virtio-vsock (Virtio 1.2, section 5.10) in user space: stream sockets between guest ports and Unix sockets on the
//! host, by the convention that Firecracker made common.
//!
//! ```text
//!   host process ── connect(uds_path), "CONNECT 1024\n" ──► Muxer ── REQUEST ──► guest port 1024
//!                ◄───────────── "OK 1073741824\n" ──────────      ◄─ RESPONSE ──
//!                ◄══════════════ raw bytes ═════════════════════ DATA, credit ═►
//!   host process ◄── connect(uds_path + "_5000") ─────────── Muxer ◄─ REQUEST ── guest, to host port 5000
//!
//!   rx queue 0  packets to the guest      one packet per connection in turn
//!   tx queue 1  packets of the guest      always drained: what cannot be delivered waits in a bounded outbox
//!   event queue 2  transport reset        after a restore, when every connection is gone
//! ```
//!
//! | unix socket of the host      | vsock packet                                        |
//! |------------------------------|-----------------------------------------------------|
//! | end of file, shutdown(WR)    | SHUTDOWN(send), after the last byte                 |
//! | closed, EPIPE                | SHUTDOWN(receive), and SHUTDOWN(send) as above      |
//! | shutdown(WR) by us           | SHUTDOWN(send) of the guest, after the last byte    |
//! | shutdown(RD) by us           | SHUTDOWN(receive) of the guest                      |
//! | closed by us                 | RST, refusal, violation, time-out                   |
//!
//! Ordering rules:
//! 1. Credit is law: what a guest sends beyond it is answered with RST, so an outbox never holds more than the window that
//!    its connection was given, and all of them no more than [`MAX_BUFFERED`].
//! 2. Anything odd of a guest costs it that one connection; only a broken ring stops the device.
//! 3. Nothing is polled: sockets are watched edge-triggered in an epoll set of the muxer's own, which is one file
//!    descriptor in the event loop; time-outs are one timer in the same set.
//! 4. Host listeners are watched only while a driver is active.
//! 5. After a transport reset event no connection is made before the guest has given a buffer back to the event queue: it ends
//!    connections when it handles the event, and must not end one that came after it. Host processes wait in the backlog.

mod connection;
mod device;
mod greeting;
mod link;
mod muxer;
mod outbox;
mod packet;
mod persist;
mod queue;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::device::Vsock;
pub use self::persist::VsockState;

/// Address of the host.
pub const HOST_CID: u64 = 2;
/// Number of queues.
pub const QUEUES: usize = 3;
/// Entries of the rx and tx queues.
pub const QUEUE_SIZE: u16 = 256;
/// Entries of the event queue.
pub const EVENT_QUEUE_SIZE: u16 = 16;
/// Most connections at once, in all states.
pub const MAX_CONNECTIONS: usize = 1024;
/// Bytes that a connection may buffer for the host, while there are at most [`ROOMY_CONNECTIONS`].
pub const ROOMY_WINDOW: u32 = 256 << 10;
/// Connections that get [`ROOMY_WINDOW`].
pub const ROOMY_CONNECTIONS: usize = 32;
/// Bytes that any further connection may buffer for the host.
pub const NARROW_WINDOW: u32 = 64 << 10;
/// Bytes that all connections together may buffer for the host.
pub const MAX_BUFFERED: usize = ROOMY_CONNECTIONS * ROOMY_WINDOW as usize
    + (MAX_CONNECTIONS - ROOMY_CONNECTIONS) * NARROW_WINDOW as usize;
/// Most bytes of data in one packet to the guest: as much as Linux sends in one.
pub const PACKET_MAX: u32 = 64 << 10;
/// Resets for connections that do not exist, waiting for a buffer of the guest; any more are dropped.
pub const MAX_RESETS: usize = 256;
/// Bytes of work per event in each direction; a packet counts as at least [`PACKET_COST`].
pub const EVENT_BUDGET: u64 = 4 << 20;
/// Least that a packet counts in [`EVENT_BUDGET`].
pub const PACKET_COST: u64 = 4 << 10;
/// How long a host process may take for its `CONNECT` line, and a guest for its answer.
pub const OPENING_TIME: Duration = Duration::from_secs(10);
/// How long a guest may take to answer the end of a connection with RST.
pub const CLOSING_TIME: Duration = Duration::from_secs(10);
/// How long a host process may leave the last bytes of a guest that is gone without taking one.
pub const DRAINING_TIME: Duration = Duration::from_secs(60);

/// Why the device cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// The Unix socket cannot be made.
    #[error("the vsock socket {path} cannot be made: {source}")]
    Listen {
        /// Where.
        path: std::path::PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// The path is too long to put a port behind it.
    #[error("the vsock socket path {0} is too long: with a port behind it, it must fit 107 bytes")]
    PathTooLong(std::path::PathBuf),
    /// The host is out of a resource.
    #[error("the events of the vsock device cannot be made: {0}")]
    Host(#[from] std::io::Error),
    /// The saved device had another address.
    #[error(
        "the vsock device was saved with guest address {saved}, but {configured} is configured"
    )]
    OtherCid {
        /// Address in the state.
        saved: u64,
        /// Address in the configuration.
        configured: u64,
    },
}
