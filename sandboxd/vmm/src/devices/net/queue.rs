//! Moves frames between the queues and the TAP.

use std::io;
use std::os::fd::AsFd;

use nix::unistd::read;
use tracing::debug;

use super::frame::{self, HEAD, HEAD_LEN, HEADER, Mac, NUM_BUFFERS, Refusal};
use super::{EVENT_BUDGET, FRAME_COST, FRAME_MAX, QUEUE_SIZE};
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::{Chain, Limits};
use crate::devices::virtio::guest_io;
use crate::devices::virtio::live::{Drained, LiveQueue, Popped, Step};

/// What a frame of the guest may be: Linux sends up to 18 pieces.
const TX_LIMITS: Limits = Limits {
    descriptors: 64,
    bytes: FRAME_MAX,
};
/// What a buffer of the guest may be.
const RX_LIMITS: Limits = Limits {
    descriptors: 64,
    bytes: u32::MAX,
};

/// What the card has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames given to the guest.
    pub rx_frames: u64,
    /// Bytes in them, without headers.
    pub rx_bytes: u64,
    /// Frames that fit no buffer of the guest.
    pub rx_dropped: u64,
    /// Times that a frame had to wait for a buffer of the guest.
    pub rx_waits: u64,
    /// Frames that left.
    pub tx_frames: u64,
    /// Bytes in them, without headers.
    pub tx_bytes: u64,
    /// Frames that the TAP did not take.
    pub tx_dropped: u64,
    /// Frames with another sender than the card.
    pub spoofed: u64,
    /// Frames that asked for something that was not agreed on.
    pub refused: u64,
    /// Chains that hold no frame, or no room.
    pub malformed: u64,
    /// Events that ended because their budget was used up.
    pub yields: u64,
}

/// Frames on their way to the guest.
pub struct Receiver {
    /// The frame that was read last, with its header.
    frame: Vec<u8>,
    /// Its length while it waits to be placed, else 0.
    waiting: usize,
    /// Whether the TAP may have more.
    pub readable: bool,
    first: Chain,
    more: Chain,
    /// Chains taken for the frame, and bytes in each.
    taken: Vec<(u16, u32)>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placed {
    Yes,
    /// The guest has too few buffers at the moment.
    Later,
    /// It fits no buffer, or the buffers are broken.
    Dropped,
}

impl Receiver {
    /// Nothing on its way.
    pub fn new() -> Self {
        Self {
            frame: vec![0; FRAME_MAX as usize],
            waiting: 0,
            readable: true,
            first: Chain::default(),
            more: Chain::default(),
            taken: Vec::with_capacity(usize::from(QUEUE_SIZE)),
        }
    }

    /// Forgets the frame that waits.
    pub fn reset(&mut self) {
        self.waiting = 0;
        self.readable = true;
    }

    /// Gives the guest what the TAP has, as long as there are buffers. `mergeable` says whether a frame may take several
    /// chains.
    pub fn receive(
        &mut self,
        tap: impl AsFd + Copy,
        rx: &mut LiveQueue,
        mergeable: bool,
        counters: &mut Counters,
    ) {
        let mut budget = EVENT_BUDGET;
        while self.fetch(tap) {
            if budget == 0 {
                counters.yields += 1;
                rx.kick();
                break;
            }
            budget = budget.saturating_sub(FRAME_COST.max(self.waiting as u64));
            match self.place(rx, mergeable, counters) {
                Placed::Yes => {
                    counters.rx_frames += 1;
                    counters.rx_bytes += (self.waiting - HEADER) as u64;
                    self.waiting = 0;
                }
                Placed::Dropped => {
                    counters.rx_dropped += 1;
                    self.waiting = 0;
                }
                Placed::Later => {
                    counters.rx_waits += 1;
                    break;
                }
            }
        }
        rx.signal();
    }

    /// Makes sure that a frame waits; false when there is none.
    fn fetch(&mut self, tap: impl AsFd + Copy) -> bool {
        while self.waiting == 0 && self.readable {
            match read(tap, &mut self.frame).map_err(io::Error::from) {
                // Shorter than a head is no frame; as long as the buffer is one that was cut.
                Ok(got) if got > HEADER && got < self.frame.len() => self.waiting = got,
                Ok(0) => self.readable = false,
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => {
                    if why.kind() != io::ErrorKind::WouldBlock {
                        debug!(%why, "the TAP cannot be read");
                    }
                    self.readable = false;
                }
            }
        }
        self.waiting > 0
    }

    /// Puts the waiting frame into chains of the guest.
    fn place(&mut self, rx: &mut LiveQueue, mergeable: bool, counters: &mut Counters) -> Placed {
        self.taken.clear();
        let mut done = 0;
        while done < self.waiting {
            let chain = if done == 0 {
                &mut self.first
            } else {
                &mut self.more
            };
            match rx.pop(RX_LIMITS, chain) {
                Popped::Chain => {}
                // Before the chains go back: notifications are asked for behind the last chain that was seen, because
                // those that are there already are too few.
                Popped::Empty if rx.rearm() => continue,
                Popped::Empty => {
                    self.taken.iter().for_each(|_| rx.unpop());
                    return Placed::Later;
                }
                Popped::Malformed(_) => {
                    counters.malformed += 1;
                    return self.give_up(rx);
                }
            }
            let room = chain.writable.len() as usize;
            let least = if done == 0 { HEADER } else { 1 };
            if room < least || !chain.readable.is_empty() {
                counters.malformed += 1;
                self.taken.push((chain.head, 0));
                return self.give_up(rx);
            }
            if room < self.waiting - done && !mergeable {
                rx.unpop();
                return Placed::Dropped;
            }
            let part = &self.frame[done..self.waiting.min(done + room)];
            let written = chain.writable.write_at(rx.memory(), 0, part);
            self.taken
                .push((chain.head, u32::try_from(written).unwrap_or_default()));
            done += part.len();
        }
        let chains = u16::try_from(self.taken.len()).unwrap_or(u16::MAX);
        self.first
            .writable
            .write_at(rx.memory(), NUM_BUFFERS, &chains.to_le_bytes());
        self.taken
            .iter()
            .for_each(|&(head, len)| rx.used(head, len));
        Placed::Yes
    }

    /// Gives chains back empty: a broken one among them has already been given back, so the order of the ring is lost.
    fn give_up(&mut self, rx: &mut LiveQueue) -> Placed {
        self.taken.iter().for_each(|&(head, _)| rx.used(head, 0));
        Placed::Dropped
    }
}

/// Sends what the guest has queued. `features` are those agreed on.
pub fn send(
    tap: impl AsFd + Copy,
    tx: &mut LiveQueue,
    chain: &mut Chain,
    mac: Mac,
    features: u64,
    counters: &mut Counters,
) {
    let Drained {
        malformed,
        out_of_budget,
        ..
    } = tx.drain(TX_LIMITS, chain, EVENT_BUDGET, |memory, chain| {
        send_frame(tap, memory, chain, mac, features, counters);
        Step::Used {
            written: 0,
            cost: FRAME_COST.max(u64::from(chain.readable.len())),
        }
    });
    counters.malformed += malformed;
    counters.yields += u64::from(out_of_budget);
}

fn send_frame(
    tap: impl AsFd,
    memory: &GuestMemory,
    chain: &Chain,
    mac: Mac,
    features: u64,
    counters: &mut Counters,
) {
    let mut head = [0; HEAD];
    if chain.readable.read_at(memory, 0, &mut head) < HEAD || !chain.writable.is_empty() {
        counters.malformed += 1;
        return;
    }
    match frame::check(&mut head, mac, features) {
        Ok(()) => {}
        Err(why) => {
            debug!(%why, "a frame of the guest is dropped");
            match why {
                Refusal::Spoofed(_) => counters.spoofed += 1,
                Refusal::Offload(_) => counters.refused += 1,
            }
            return;
        }
    }
    match guest_io::write_frame(tap, &head, memory, &chain.readable, HEAD_LEN) {
        Ok(sent) => {
            counters.tx_frames += 1;
            counters.tx_bytes += sent.saturating_sub(HEADER) as u64;
        }
        Err(why) => {
            debug!(%why, "the TAP did not take a frame");
            counters.tx_dropped += 1;
        }
    }
}
