//! Moves packets between the queues and the muxer, a bounded number per event.

use super::muxer::Muxer;
use super::packet::HEADER_LEN;
use super::{EVENT_BUDGET, PACKET_COST, PACKET_MAX};
use crate::devices::virtio::chain::{Chain, Limits};
use crate::devices::virtio::live::{LiveQueue, Popped, Step};

/// What a packet of the guest may be: Linux sends up to 64 KiB in a few pieces.
const TX_LIMITS: Limits = Limits {
    descriptors: 64,
    bytes: HEADER_LEN + 2 * PACKET_MAX,
};
/// What a buffer of the guest may be; a packet uses at most its first [`PACKET_MAX`] bytes and the header.
const RX_LIMITS: Limits = Limits {
    descriptors: 64,
    bytes: u32::MAX,
};
/// Number of the transport reset event (Virtio 1.2, 5.10.6.7).
const EVENT_TRANSPORT_RESET: [u8; 4] = 0u32.to_le_bytes();

/// Takes in what the guest sent.
pub fn take(tx: &mut LiveQueue, muxer: &mut Muxer, chain: &mut Chain) {
    let drained = tx.drain(TX_LIMITS, chain, EVENT_BUDGET, |memory, chain| {
        let data = muxer.on_packet(memory, chain);
        Step::Used {
            written: 0,
            cost: u64::from(data).max(PACKET_COST),
        }
    });
    muxer.counters.malformed += drained.malformed;
    muxer.counters.yields += u64::from(drained.out_of_budget);
}

/// Gives the guest what there is for it, as long as it has buffers.
pub fn give(rx: &mut LiveQueue, muxer: &mut Muxer, chain: &mut Chain) {
    let mut budget = EVENT_BUDGET;
    while muxer.has_work() {
        if budget == 0 {
            muxer.counters.yields += 1;
            rx.kick();
            break;
        }
        let mut cost = PACKET_COST;
        match rx.pop(RX_LIMITS, chain) {
            // Without buffers, the guest's next notification brings us back.
            Popped::Empty if !rx.rearm() => break,
            Popped::Empty => {}
            Popped::Malformed(_) => muxer.counters.malformed += 1,
            Popped::Chain if chain.writable.len() <= HEADER_LEN => {
                muxer.counters.malformed += 1;
                rx.used(chain.head, 0);
            }
            Popped::Chain => match muxer.next_packet(rx.memory(), chain) {
                Some(len) => {
                    rx.used(chain.head, len);
                    cost = cost.max(u64::from(len));
                }
                None => rx.unpop(),
            },
        }
        budget = budget.saturating_sub(cost);
    }
    rx.signal();
}

/// Tells the guest that all its connections are gone; None when it has no buffer for that yet. Otherwise the end of the event
/// queue at that moment, behind which the guest puts the buffer back when it has ended them.
pub fn tell_transport_reset(events: &mut LiveQueue, chain: &mut Chain) -> Option<u16> {
    loop {
        match events.pop(RX_LIMITS, chain) {
            Popped::Empty if !events.rearm() => return None,
            Popped::Empty | Popped::Malformed(_) => {}
            Popped::Chain => {
                let told = chain
                    .writable
                    .write_at(events.memory(), 0, &EVENT_TRANSPORT_RESET);
                events.used(chain.head, u32::try_from(told).unwrap_or_default());
                let end = events.watch_end();
                events.signal();
                return Some(end);
            }
        }
    }
}
