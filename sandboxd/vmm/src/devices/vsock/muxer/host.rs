//! The host's side: accepting, greeting, readiness.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, socket,
};
use tracing::{debug, error};
use vmm_sys_util::epoll::{EpollEvent, EventSet};

use super::{Body, FIRST_HOST_PORT, Id, LISTENER, Muxer, Slot, TIMER, window};
use crate::devices::vsock::connection::Connection;
use crate::devices::vsock::greeting::{self, Greeting};
use crate::devices::vsock::link::{Key, Link};
use crate::devices::vsock::{DRAINING_TIME, MAX_CONNECTIONS, OPENING_TIME};

/// Host events taken at once; the rest stays for the next round of the event loop.
const EVENTS: usize = 64;
/// Connections accepted at once.
const ACCEPTS: usize = 64;
/// How long the listener rests when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Muxer {
    /// Takes in what happened to the host sockets and the timer.
    pub fn host_events(&mut self) {
        let mut events = [EpollEvent::default(); EVENTS];
        let count = match self.epoll.wait(0, &mut events) {
            Ok(count) => count,
            Err(why) if why.kind() == ErrorKind::Interrupted => 0,
            Err(why) => {
                error!(%why, "the vsock sockets cannot be watched");
                0
            }
        };
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept(),
                TIMER => {
                    if let Err(why) = self.timer.wait() {
                        error!(%why, "the vsock timer cannot be read");
                    }
                    self.expire(Instant::now());
                }
                id => self.socket_event(id, event.event_set()),
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(why) if why.kind() == ErrorKind::WouldBlock => return,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => {
                    // Level-triggered, it would fire again at once.
                    error!(%why, "no vsock connection can be accepted for a moment");
                    self.stop_listening();
                    self.deadlines
                        .insert((Instant::now() + ACCEPT_PAUSE, LISTENER));
                    return;
                }
            };
            if self.is_full() {
                debug!("a vsock connection is turned away: there are {MAX_CONNECTIONS} already");
                self.counters.refused += 1;
                continue;
            }
            let greeting = socket
                .set_nonblocking(true)
                .and_then(|()| self.insert(Body::Greeting(socket), Some(OPENING_TIME)));
            if let Err(why) = greeting {
                error!(%why, "a vsock connection cannot be watched");
                self.counters.refused += 1;
            }
        }
    }

    fn socket_event(&mut self, id: Id, events: EventSet) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let link = match &mut slot.body {
            Body::Greeting(_) => {
                let ended = events.intersects(EventSet::READ_HANG_UP | EventSet::HANG_UP);
                return self.greet(id, ended);
            }
            Body::Link(link) => link,
        };
        if events.intersects(EventSet::IN | EventSet::READ_HANG_UP | EventSet::ERROR) {
            link.readable = true;
        }
        if events.intersects(EventSet::HANG_UP | EventSet::ERROR) {
            if link.connection.is_pending() {
                return self.drop_with_reset(id);
            }
            link.readable = true;
            link.host_is_gone();
        } else if events.contains(EventSet::OUT) && link.flush() && !link.attached {
            self.set_deadline(id, Some(DRAINING_TIME));
        }
        self.touch(id);
    }

    /// Reads the `CONNECT` line, once it is whole; not a byte more.
    fn greet(&mut self, id: Id, ended: bool) {
        let Some(Body::Greeting(socket)) = self.slots.get_mut(&id).map(|slot| &mut slot.body)
        else {
            return;
        };
        let mut line = [0; greeting::LINE_MAX];
        let peeked = recv(socket.as_raw_fd(), &mut line, MsgFlags::MSG_PEEK);
        let got = match peeked.map_err(io::Error::from) {
            Ok(got) => got,
            Err(why) if why.kind() == ErrorKind::WouldBlock && !ended => return,
            Err(_) => 0,
        };
        match greeting::parse(&line[..got]) {
            Greeting::Incomplete if got > 0 && !ended => {}
            Greeting::Connect { port, length }
                if socket.read_exact(&mut line[..length]).is_ok() =>
            {
                self.ask_guest(id, port);
            }
            Greeting::Incomplete | Greeting::Connect { .. } | Greeting::Invalid => {
                debug!("a vsock greeting makes no sense");
                self.counters.refused += 1;
                self.remove(id);
            }
        }
    }

    fn ask_guest(&mut self, id: Id, guest_port: u32) {
        let window = window(self.slots.len() - 1);
        let Some(key) = self.free_key(guest_port) else {
            self.remove(id);
            return;
        };
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        let Body::Greeting(socket) = slot.body else {
            return;
        };
        let link = Link::new(key, Connection::from_host(window), socket);
        self.slots.insert(
            id,
            Slot {
                body: Body::Link(link),
                ..slot
            },
        );
        self.by_key.insert(key, id);
        self.counters.host_requests += 1;
        self.touch(id);
    }

    /// A key for a connection to `guest_port` that is not in use.
    fn free_key(&mut self, guest_port: u32) -> Option<Key> {
        // One more than there can be in use.
        for _ in 0..=MAX_CONNECTIONS {
            let host_port = self.next_port;
            self.next_port = FIRST_HOST_PORT | ((host_port + 1) % FIRST_HOST_PORT);
            let key = Key {
                host_port,
                guest_port,
            };
            if !self.by_key.contains_key(&key) {
                return Some(key);
            }
        }
        None
    }
}

/// Connects to the Unix socket at `path` without waiting: a listener whose backlog is full refuses.
pub(super) fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}
