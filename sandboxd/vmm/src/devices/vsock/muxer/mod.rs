//! All connections of a guest: who is in which state, who has something to send, who is running out of time.
//!
//! ```text
//!   accepted ──► Greeting ── CONNECT line ──► Link (attached) ── RST of the guest ──► Link (detached: only its outbox
//!                                               ▲       │                              is left to go) ──► gone
//!                guest REQUEST ── connected ────┘       └── RST, refusal, violation, time-out ──────────► gone
//!
//!   ready: links that have a packet for the guest, each once, served in turn      (see `guest`)
//!   epoll: host sockets, edge-triggered; the listener, level-triggered; the timer (see `host`)
//! ```
//!
//! Ordering rules:
//! 1. After anything that changes a link, [`Muxer::touch`] decides whether it is over or has a packet to send.
//! 2. A reset for a connection that is gone waits in `resets`; everything else waits as state of its link, so a guest that
//!    takes no packets makes nothing grow.
//! 3. [`Muxer::arm_timer`] comes last in every event.

mod guest;
mod host;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::error;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::timerfd::TimerFd;

use super::connection::Settled;
use super::link::{Key, Link};
use super::packet::{Header, Op, TYPE_STREAM};
use super::{
    CLOSING_TIME, DRAINING_TIME, HOST_CID, MAX_CONNECTIONS, MAX_RESETS, NARROW_WINDOW,
    ROOMY_CONNECTIONS, ROOMY_WINDOW, VsockError,
};

/// Names a slot for as long as the muxer lives; never used twice.
type Id = u64;
/// The listener in epoll, and its pause among the deadlines.
const LISTENER: Id = 0;
/// The timer in epoll.
const TIMER: Id = 1;
/// Ports given to connections that the host asks for: far from any that a service would be known by.
const FIRST_HOST_PORT: u32 = 1 << 30;
/// Longest path of a Unix socket.
const PATH_MAX: usize = 107;

/// What the device has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that host processes asked for.
    pub host_requests: u64,
    /// Connections that the guest asked for.
    pub guest_requests: u64,
    /// Packets to the guest.
    pub rx_packets: u64,
    /// Bytes of data to the guest.
    pub rx_bytes: u64,
    /// Packets of the guest.
    pub tx_packets: u64,
    /// Bytes of data of the guest.
    pub tx_bytes: u64,
    /// Resets meant for the guest.
    pub resets: u64,
    /// Resets that found no room.
    pub resets_dropped: u64,
    /// Connections and greetings turned away: no listener, no room, no sense.
    pub refused: u64,
    /// Packets that broke the protocol of their connection.
    pub violations: u64,
    /// Packets with another sender than the guest.
    pub spoofed: u64,
    /// Chains that hold no packet.
    pub malformed: u64,
    /// Connections that ran out of time.
    pub timeouts: u64,
    /// Events that ended because their budget was used up.
    pub yields: u64,
}

/// One host socket and what it is for.
struct Slot {
    body: Body,
    deadline: Option<Instant>,
    /// Whether it stands in `ready`.
    queued: bool,
}

enum Body {
    /// The process has yet to say which port it wants.
    Greeting(UnixStream),
    Link(Link),
}

/// The connections of one guest.
pub struct Muxer {
    guest_cid: u64,
    path: PathBuf,
    listener: UnixListener,
    listening: bool,
    epoll: Epoll,
    timer: TimerFd,
    armed: Option<Instant>,
    deadlines: BTreeSet<(Instant, Id)>,
    slots: HashMap<Id, Slot>,
    by_key: HashMap<Key, Id>,
    ready: VecDeque<Id>,
    resets: VecDeque<Header>,
    next_id: Id,
    next_port: u32,
    /// What is counted.
    pub counters: Counters,
}

impl Muxer {
    /// Binds the socket at `path`; nobody is served before [`Muxer::start`].
    ///
    /// # Errors
    /// When the path is in use, too long or not writable.
    pub fn new(guest_cid: u64, path: &Path) -> Result<Self, VsockError> {
        if path.as_os_str().len() + "_4294967295".len() > PATH_MAX {
            return Err(VsockError::PathTooLong(path.to_owned()));
        }
        let listen = |source| VsockError::Listen {
            path: path.to_owned(),
            source,
        };
        let listener = UnixListener::bind(path).map_err(listen)?;
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new()?;
        let timer = TimerFd::new().map_err(io::Error::from)?;
        let tick = EpollEvent::new(EventSet::IN, TIMER);
        epoll.ctl(ControlOperation::Add, timer.as_raw_fd(), tick)?;
        Ok(Self {
            guest_cid,
            path: path.to_owned(),
            listener,
            listening: false,
            epoll,
            timer,
            armed: None,
            deadlines: BTreeSet::new(),
            slots: HashMap::new(),
            by_key: HashMap::new(),
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            next_id: TIMER + 1,
            next_port: FIRST_HOST_PORT,
            counters: Counters::default(),
        })
    }

    /// The file descriptor that is readable when [`Muxer::host_events`] has work.
    pub fn event_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Port of the next connection that the host asks for.
    pub fn next_port(&self) -> u32 {
        self.next_port
    }

    /// Leaves out all ports below `port`.
    pub fn skip_ports(&mut self, port: u32) {
        let port = FIRST_HOST_PORT | (port % FIRST_HOST_PORT);
        self.next_port = self.next_port.max(port);
    }

    /// Address of the guest.
    pub fn guest_cid(&self) -> u64 {
        self.guest_cid
    }

    /// Connections in any state.
    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// Connections that the guest may know of, and resets that wait for it.
    pub fn known_to_guest(&self) -> usize {
        self.by_key.len() + self.resets.len()
    }

    /// Begins to accept host processes.
    ///
    /// # Errors
    /// When the listener cannot be watched.
    pub fn start(&mut self) -> io::Result<()> {
        if !self.listening {
            let event = EpollEvent::new(EventSet::IN, LISTENER);
            self.epoll
                .ctl(ControlOperation::Add, self.listener.as_raw_fd(), event)?;
            self.listening = true;
        }
        Ok(())
    }

    /// Drops every connection and stops to accept.
    pub fn stop(&mut self) {
        self.stop_listening();
        self.slots.clear();
        self.by_key.clear();
        self.ready.clear();
        self.resets.clear();
        self.deadlines.clear();
        self.arm_timer();
    }

    fn stop_listening(&mut self) {
        if std::mem::take(&mut self.listening) {
            let none = EpollEvent::default();
            let fd = self.listener.as_raw_fd();
            if let Err(why) = self.epoll.ctl(ControlOperation::Delete, fd, none) {
                error!(%why, "the vsock listener cannot be taken out of epoll");
            }
        }
    }

    /// Sets the timer to the next deadline.
    pub fn arm_timer(&mut self) {
        let next = self.deadlines.first().map(|&(at, _)| at);
        if next == self.armed {
            return;
        }
        let set = match next {
            // A time of zero would disarm it.
            Some(at) => self
                .timer
                .reset(time_until(at).max(Duration::from_micros(1)), None),
            None => self.timer.clear(),
        };
        match set {
            Ok(()) => self.armed = next,
            Err(why) => error!(%why, "the vsock timer cannot be set"),
        }
    }

    /// Ends what has run out of time at `now`.
    pub fn expire(&mut self, now: Instant) {
        self.armed = None;
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            if id == LISTENER {
                if let Err(why) = self.start() {
                    error!(%why, "the vsock listener cannot be watched again");
                }
                continue;
            }
            self.counters.timeouts += 1;
            self.drop_with_reset(id);
        }
    }

    /// Puts a socket into a new slot and watches it.
    fn insert(&mut self, body: Body, after: Option<Duration>) -> io::Result<Id> {
        let id = self.next_id;
        self.next_id += 1;
        let fd = match &body {
            Body::Greeting(socket) => socket.as_raw_fd(),
            Body::Link(link) => link.as_raw_fd(),
        };
        let events =
            EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        self.epoll
            .ctl(ControlOperation::Add, fd, EpollEvent::new(events, id))?;
        if let Body::Link(link) = &body {
            self.by_key.insert(link.key, id);
        }
        self.slots.insert(
            id,
            Slot {
                body,
                deadline: None,
                queued: false,
            },
        );
        self.set_deadline(id, after);
        Ok(id)
    }

    /// Forgets a slot; its socket is closed, which also takes it out of epoll.
    fn remove(&mut self, id: Id) -> Option<Slot> {
        self.set_deadline(id, None);
        let slot = self.slots.remove(&id)?;
        if let Body::Link(link) = &slot.body
            && link.attached
        {
            self.by_key.remove(&link.key);
        }
        Some(slot)
    }

    /// Forgets a slot and tells the guest, if it knows of it.
    fn drop_with_reset(&mut self, id: Id) {
        if let Some(Slot {
            body: Body::Link(link),
            ..
        }) = self.remove(id)
            && link.attached
        {
            let reset = Header {
                op: Op::Reset as u16,
                ..header(self.guest_cid, link.key)
            };
            self.push_reset(reset);
        }
    }

    fn push_reset(&mut self, reset: Header) {
        if self.resets.len() < MAX_RESETS {
            self.counters.resets += 1;
            self.resets.push_back(reset);
        } else {
            self.counters.resets_dropped += 1;
        }
    }

    /// Whether `to_guest` has something to look at.
    pub fn has_work(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// Looks at a link after a change: over, or ready to send?
    fn touch(&mut self, id: Id) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let Body::Link(link) = &mut slot.body else {
            return;
        };
        if !link.attached {
            if !link.has_outbox() {
                self.remove(id);
            }
            return;
        }
        match link.connection.settle() {
            Settled::Reset => return self.drop_with_reset(id),
            Settled::AwaitReset if slot.deadline.is_none() => {
                self.set_deadline(id, Some(CLOSING_TIME));
            }
            Settled::AwaitReset | Settled::No => {}
        }
        if let Some(slot) = self.slots.get_mut(&id)
            && let Body::Link(link) = &slot.body
            && !slot.queued
            && link.connection.plan(link.readable).is_some()
        {
            slot.queued = true;
            self.ready.push_back(id);
        }
    }

    /// The guest dropped a connection. What it sent before and the host did not take yet is still delivered, if the guest
    /// had ended its sending in order.
    fn guest_is_gone(&mut self, id: Id) {
        let Some(Slot {
            body: Body::Link(link),
            ..
        }) = self.slots.get_mut(&id)
        else {
            return;
        };
        if link.connection.guest_ended().send && link.has_outbox() {
            link.attached = false;
            let key = link.key;
            self.by_key.remove(&key);
            self.set_deadline(id, Some(DRAINING_TIME));
        } else {
            self.remove(id);
        }
    }

    fn set_deadline(&mut self, id: Id, after: Option<Duration>) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if let Some(old) = slot.deadline.take() {
            self.deadlines.remove(&(old, id));
        }
        if let Some(after) = after {
            let at = Instant::now() + after;
            slot.deadline = Some(at);
            self.deadlines.insert((at, id));
        }
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= MAX_CONNECTIONS
    }
}

/// What a connection may buffer when there are `others` already. A roomy window is only given while there are few, so there
/// are never more roomy ones than [`ROOMY_CONNECTIONS`].
fn window(others: usize) -> u32 {
    if others < ROOMY_CONNECTIONS {
        ROOMY_WINDOW
    } else {
        NARROW_WINDOW
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_file(&self.path)
            // Whoever made the folder may have removed it first.
            && why.kind() != io::ErrorKind::NotFound
        {
            error!(%why, path = %self.path.display(), "the vsock socket cannot be removed");
        }
    }
}

fn time_until(at: Instant) -> Duration {
    at.saturating_duration_since(Instant::now())
}

/// A header to the guest, operation and credit still missing.
fn header(guest_cid: u64, key: Key) -> Header {
    Header {
        src_cid: HOST_CID,
        dst_cid: guest_cid,
        src_port: key.host_port,
        dst_port: key.guest_port,
        kind: TYPE_STREAM,
        ..Header::default()
    }
}
