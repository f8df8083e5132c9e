//! The guest's side: its packets in, packets for it out.

use std::ffi::OsString;

use tracing::{debug, trace};

use super::host::connect_to;
use super::{Body, Id, Muxer, Slot, header, window};
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::Chain;
use crate::devices::vsock::connection::{Connection, Plan, Reaction};
use crate::devices::vsock::link::{Key, Link, Read};
use crate::devices::vsock::packet::{HEADER_BYTES, HEADER_LEN, Header, Op, TYPE_STREAM};
use crate::devices::vsock::{HOST_CID, PACKET_MAX};

impl Muxer {
    /// Takes in a packet of the guest; returns the bytes of data that came with it.
    pub fn on_packet(&mut self, memory: &GuestMemory, chain: &Chain) -> u32 {
        let mut raw = [0; HEADER_BYTES];
        if chain.readable.read_at(memory, 0, &mut raw) < raw.len() {
            self.counters.malformed += 1;
            return 0;
        }
        let header = Header::decode(&raw);
        trace!(?header, "from the guest");
        self.counters.tx_packets += 1;
        if header.src_cid != self.guest_cid {
            self.counters.spoofed += 1;
            return 0;
        }
        let key = Key {
            host_port: header.dst_port,
            guest_port: header.src_port,
        };
        let known = match header.dst_cid == HOST_CID && header.kind == TYPE_STREAM {
            true => self.by_key.get(&key).copied(),
            false => None,
        };
        let Some(id) = known else {
            self.on_stranger(&header, key);
            return 0;
        };
        if header.len > chain.readable.len() - HEADER_LEN {
            self.counters.malformed += 1;
            self.drop_with_reset(id);
            return 0;
        }
        self.on_link_packet(id, &header, memory, chain)
    }

    /// A packet that belongs to no connection: a request, or a mistake.
    fn on_stranger(&mut self, header: &Header, key: Key) {
        let request = header.op == Op::Request as u16
            && header.dst_cid == HOST_CID
            && header.kind == TYPE_STREAM;
        if request && !self.is_full() && self.connect_host(header, key) {
            self.counters.guest_requests += 1;
        } else if header.op != Op::Reset as u16 {
            self.counters.refused += u64::from(request);
            self.push_reset(header.refusal());
        }
    }

    fn connect_host(&mut self, request: &Header, key: Key) -> bool {
        let mut path = OsString::from(&self.path);
        path.push(format!("_{}", key.host_port));
        let connected = connect_to(path.as_ref()).and_then(|socket| {
            let connection = Connection::from_guest(window(self.slots.len()), request);
            self.insert(Body::Link(Link::new(key, connection, socket)), None)
        });
        match connected {
            Ok(id) => {
                self.touch(id);
                true
            }
            Err(why) => {
                debug!(%why, port = key.host_port, "nobody takes a connection of the guest");
                false
            }
        }
    }

    fn on_link_packet(
        &mut self,
        id: Id,
        header: &Header,
        memory: &GuestMemory,
        chain: &Chain,
    ) -> u32 {
        let Some(Slot {
            body: Body::Link(link),
            ..
        }) = self.slots.get_mut(&id)
        else {
            return 0;
        };
        let mut data = 0;
        match link.connection.on_packet(header) {
            Ok(Reaction::Nothing) => {}
            Ok(Reaction::Connected) => {
                if link.answer(link.key.host_port).is_err() {
                    self.drop_with_reset(id);
                    return 0;
                }
                self.set_deadline(id, None);
            }
            Ok(Reaction::Deliver) => {
                data = header.len;
                link.deliver(memory, &chain.readable, data);
            }
            Ok(Reaction::Discard) => data = header.len,
            Ok(Reaction::Ended) => link.tell_host(),
            Ok(Reaction::Reset) => {
                self.guest_is_gone(id);
                return 0;
            }
            Err(violation) => {
                debug!(%violation, ?header, "a vsock connection is reset");
                self.counters.violations += 1;
                self.drop_with_reset(id);
                return 0;
            }
        }
        self.counters.tx_bytes += u64::from(data);
        self.touch(id);
        data
    }

    /// Puts the next packet for the guest into `chain`, which has room for a header and a byte; returns its length, or
    /// nothing when no connection has anything to send after all.
    pub fn next_packet(&mut self, memory: &GuestMemory, chain: &Chain) -> Option<u32> {
        let header = match self.resets.pop_front() {
            Some(reset) => reset,
            None => self.next_of_ready(memory, chain)?,
        };
        chain.writable.write_at(memory, 0, &header.encode());
        trace!(?header, "to the guest");
        self.counters.rx_packets += 1;
        self.counters.rx_bytes += u64::from(header.len);
        Some(HEADER_LEN + header.len)
    }

    fn next_of_ready(&mut self, memory: &GuestMemory, chain: &Chain) -> Option<Header> {
        while let Some(id) = self.ready.pop_front() {
            let Some(slot) = self.slots.get_mut(&id) else {
                continue;
            };
            slot.queued = false;
            let Body::Link(link) = &mut slot.body else {
                continue;
            };
            let mut header = header(self.guest_cid, link.key);
            let sent = send(link, memory, chain, &mut header);
            // Behind the others, if it has more; or gone, if this was the end.
            self.touch(id);
            if sent {
                return Some(header);
            }
            if let Some(reset) = self.resets.pop_front() {
                return Some(reset);
            }
        }
        None
    }
}

/// Fills in one packet of a link; false when there is none after all.
fn send(link: &mut Link, memory: &GuestMemory, chain: &Chain, header: &mut Header) -> bool {
    while let Some(plan) = link.connection.plan(link.readable) {
        match plan {
            Plan::Control(op) => {
                link.connection.send(op, 0, header);
                return true;
            }
            Plan::Data(credit) => match link.read(memory, chain, credit.min(PACKET_MAX)) {
                Read::Data(len) => {
                    link.connection.send(Op::Data, len, header);
                    return true;
                }
                // It is not readable any more, so the next plan is another one.
                Read::Nothing => {}
                // Perhaps the last there was to wait for; the caller finds out.
                Read::End => return false,
            },
        }
    }
    false
}
