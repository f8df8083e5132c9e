//! A connection together with the host socket that it ends in.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use super::connection::{Connection, Ended};
use super::outbox::Outbox;
use super::packet::HEADER_LEN;
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::{Chain, Segments};
use crate::devices::virtio::guest_io;

/// What names a connection: the host's port and the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Port on the host's side.
    pub host_port: u32,
    /// Port on the guest's side.
    pub guest_port: u32,
}

/// What came of reading from a host socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes are in the chain.
    Data(u32),
    /// There is nothing at the moment.
    Nothing,
    /// The host will send nothing more.
    End,
}

/// A connection and its socket.
#[derive(Debug)]
pub struct Link {
    /// What names it.
    pub key: Key,
    /// Its protocol state.
    pub connection: Connection,
    /// Whether the guest still knows it. When not, only the outbox is left to be brought to the host.
    pub attached: bool,
    /// Whether the socket may have bytes to read, or its end.
    pub readable: bool,
    socket: UnixStream,
    outbox: Outbox,
    /// Whether the socket may have room.
    writable: bool,
    /// What of the guest's ends the socket has been told.
    told: Ended,
}

impl Link {
    /// Joins a connection to a socket that is in non-blocking mode and whose readiness is not known yet.
    pub fn new(key: Key, connection: Connection, socket: UnixStream) -> Self {
        Self {
            key,
            connection,
            attached: true,
            readable: true,
            socket,
            outbox: Outbox::default(),
            writable: true,
            told: Ended::default(),
        }
    }

    /// Whether bytes of the guest wait for the host.
    pub fn has_outbox(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Tells the host process that the guest accepted.
    ///
    /// # Errors
    /// When the socket does not take the line, which a fresh one does.
    pub fn answer(&mut self, host_port: u32) -> io::Result<()> {
        io::Write::write_all(&mut &self.socket, format!("OK {host_port}\n").as_bytes())
    }

    /// Passes `len` bytes behind the header of a packet of the guest on to the host.
    pub fn deliver(&mut self, memory: &GuestMemory, data: &Segments, len: u32) {
        let sent = match self.outbox.is_empty() && self.writable {
            true => self.send(memory, data, len),
            false => Ok(0),
        };
        match sent {
            Ok(sent) => {
                self.connection.forwarded(sent);
                if sent < len {
                    self.writable = false;
                    self.outbox
                        .push(memory, data, HEADER_LEN + sent, len - sent);
                }
            }
            Err(_) => self.host_is_gone(),
        }
        self.tell_host();
    }

    fn send(&self, memory: &GuestMemory, data: &Segments, len: u32) -> io::Result<u32> {
        loop {
            return match guest_io::send(&self.socket, memory, data, HEADER_LEN, len) {
                Ok(sent) => Ok(u32::try_from(sent).unwrap_or(len)),
                Err(why) if why.kind() == ErrorKind::WouldBlock => Ok(0),
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => Err(why),
            };
        }
    }

    /// Brings waiting bytes to a socket that has room again; returns whether any went.
    pub fn flush(&mut self) -> bool {
        self.writable = true;
        let before = self.outbox.len();
        match self.outbox.write_to(&self.socket) {
            Ok(written) => {
                self.connection
                    .forwarded(u32::try_from(written).unwrap_or(u32::MAX));
                self.writable = self.outbox.is_empty();
            }
            Err(_) => self.host_is_gone(),
        }
        self.tell_host();
        self.outbox.len() < before
    }

    /// Reads what the socket has, at most `most` bytes, into the writable part of `chain` behind the header.
    pub fn read(&mut self, memory: &GuestMemory, chain: &Chain, most: u32) -> Read {
        let room = chain.writable.len().saturating_sub(HEADER_LEN).min(most);
        if room == 0 {
            // Reading nothing would look like the end.
            return Read::Nothing;
        }
        loop {
            match guest_io::receive(&self.socket, memory, &chain.writable, HEADER_LEN, room) {
                Ok(0) => {}
                Ok(got) => return Read::Data(u32::try_from(got).unwrap_or(room)),
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) if why.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Read::Nothing;
                }
                // The other side closed with bytes of ours unread; there is nothing more to come.
                Err(_) => self.host_is_gone(),
            }
            self.readable = false;
            self.connection.host_finished_sending();
            return Read::End;
        }
    }

    /// Notes that the host process closed its socket: it takes nothing more. What it sent before is still to be read.
    pub fn host_is_gone(&mut self) {
        self.outbox.clear();
        self.connection.host_stopped_receiving();
    }

    /// Passes the guest's ends on to the socket: that of its data when the last byte is out.
    pub fn tell_host(&mut self) {
        let guest = self.connection.guest_ended();
        if guest.send && !self.told.send && self.outbox.is_empty() {
            self.told.send = true;
            self.shutdown(Shutdown::Write);
        }
        if guest.receive && !self.told.receive {
            self.told.receive = true;
            self.shutdown(Shutdown::Read);
        }
    }

    fn shutdown(&self, how: Shutdown) {
        // It can only fail because the other side is gone, which a read or write will tell.
        let _ = self.socket.shutdown(how);
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
