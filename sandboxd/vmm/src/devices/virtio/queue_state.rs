//! The saved form of a queue. A device that is saved while active saves its queues; restoring hands queues made from them
//! to `activate`, as if the driver had just set them up, and they go on where they stood.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueT};

/// A queue as it stands in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueState {
    /// Largest size that the device offers.
    pub max_size: u16,
    /// Size that the driver chose.
    pub size: u16,
    /// Whether the driver enabled it.
    pub ready: bool,
    /// Whether VIRTIO_F_RING_EVENT_IDX was negotiated.
    pub event_idx: bool,
    /// Guest address of the descriptor table.
    pub desc_table: u64,
    /// Guest address of the available ring.
    pub avail_ring: u64,
    /// Guest address of the used ring.
    pub used_ring: u64,
    /// Next entry of the available ring that the device reads.
    pub next_avail: u16,
    /// Next entry of the used ring that the device writes.
    pub next_used: u16,
}

impl QueueState {
    /// Takes down where `queue` stands.
    pub fn of(queue: &Queue) -> Self {
        Self {
            max_size: queue.max_size(),
            size: queue.size(),
            ready: queue.ready(),
            event_idx: queue.event_idx_enabled(),
            desc_table: queue.desc_table(),
            avail_ring: queue.avail_ring(),
            used_ring: queue.used_ring(),
            next_avail: queue.next_avail(),
            next_used: queue.next_used(),
        }
    }

    /// Makes the queue again. Whether its addresses lie in guest memory is still to be checked.
    ///
    /// # Errors
    /// When a size is impossible or an address is not aligned.
    pub fn restore(&self) -> Result<Queue, virtio_queue::Error> {
        let mut queue = Queue::new(self.max_size)?;
        queue.try_set_size(self.size)?;
        queue.try_set_desc_table_address(vm_memory::GuestAddress(self.desc_table))?;
        queue.try_set_avail_ring_address(vm_memory::GuestAddress(self.avail_ring))?;
        queue.try_set_used_ring_address(vm_memory::GuestAddress(self.used_ring))?;
        queue.set_event_idx(self.event_idx);
        queue.set_next_avail(self.next_avail);
        queue.set_next_used(self.next_used);
        queue.set_ready(self.ready);
        Ok(queue)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_queue_comes_back_as_it_was(
            power in 0..9u32, event_idx: bool, ready: bool, addresses: [u32; 3], indices: [u16; 2],
        ) {
            let state = QueueState {
                max_size: 256,
                size: 1 << power,
                ready,
                event_idx,
                desc_table: u64::from(addresses[0]) << 4,
                avail_ring: u64::from(addresses[1]) << 1,
                used_ring: u64::from(addresses[2]) << 2,
                next_avail: indices[0],
                next_used: indices[1],
            };
            prop_assert_eq!(QueueState::of(&state.restore().unwrap()), state);
        }
    }

    #[test]
    fn impossible_queues_are_refused() {
        let good = QueueState::of(&Queue::new(16).unwrap());
        for bad in [
            QueueState {
                max_size: 3,
                ..good
            },
            QueueState { size: 32, ..good },
            QueueState { size: 0, ..good },
            QueueState {
                desc_table: 8,
                ..good
            },
            QueueState {
                avail_ring: 1,
                ..good
            },
            QueueState {
                used_ring: 2,
                ..good
            },
        ] {
            assert!(bad.restore().is_err(), "{bad:?}");
        }
    }
}
