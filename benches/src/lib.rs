//! What the benchmarks share: the driver's side of a virtqueue.
//!
//! ```text
//!   TABLE      descriptors: chains of `buffers` each, laid out once
//!   AVAILABLE  offered again and again by moving its index
//!   USED       written by the device
//!   BUFFERS    where every chain points
//! ```
//!
//! Benchmarks print series and never assert a time: `cargo bench -p benches`. What needs a guest is measured by
//! `cargo xtask peers` and `cargo xtask measure`.

use std::sync::Arc;

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm::devices::virtio::live::LiveQueue;
use vmm::devices::virtio::{Activation, GuestMemory, Interrupt};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const TABLE: u64 = 0;
const AVAILABLE: u64 = 0x4000;
const USED: u64 = 0x8000;
const BUFFERS: u64 = 0x1_0000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// Entries of the queue.
pub const SIZE: u16 = 256;

/// A device's side of a queue that a driver keeps full.
pub struct Ring {
    /// What the device pops from.
    pub queue: LiveQueue,
    memory: Arc<GuestMemory>,
    offered: u16,
}

struct NoInterrupt;

impl Interrupt for NoInterrupt {
    fn used(&self) {}
    fn config_changed(&self) {}
    fn needs_reset(&self) {}
}

impl Ring {
    /// Lays out chains of as many buffers of `len` bytes as `readable` and `writable` say; a power of two together.
    ///
    /// # Panics
    /// When the host has no memory or descriptors left.
    #[must_use]
    pub fn new(readable: u16, writable: u16, len: u32) -> Self {
        let ranges = [(GuestAddress(0), 16 << 20)];
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&ranges).expect("memory"));
        let each = readable + writable;
        for index in 0..SIZE {
            let within = index % each;
            let mut flags = if within < readable { 0 } else { WRITE };
            flags |= if within + 1 < each { NEXT } else { 0 };
            let buffer = BUFFERS + u64::from(within) * u64::from(len);
            let next = (index + 1) % SIZE;
            let at = GuestAddress(TABLE + u64::from(index) * 16);
            let descriptor = Descriptor::new(buffer, len, flags, next);
            memory.write_obj(descriptor, at).expect("inside memory");
        }
        for slot in 0..SIZE {
            let head = (slot * each) % SIZE;
            let at = GuestAddress(AVAILABLE + 4 + u64::from(slot) * 2);
            memory.write_obj(head, at).expect("inside memory");
        }
        let activation = Activation {
            memory: Arc::clone(&memory),
            queues: vec![device_side()],
            queue_events: vec![Arc::new(EventFd::new(EFD_NONBLOCK).expect("an eventfd"))],
            interrupt: Arc::new(NoInterrupt),
            features: 0,
        };
        let [queue] = LiveQueue::take(activation).expect("one queue");
        Self {
            queue,
            memory,
            offered: 0,
        }
    }

    /// The driver offers `chains` more.
    ///
    /// # Panics
    /// Never: the ring lies inside of memory.
    pub fn offer(&mut self, chains: u16) {
        self.offered = self.offered.wrapping_add(chains);
        let index = GuestAddress(AVAILABLE + 2);
        self.memory
            .write_obj(self.offered, index)
            .expect("inside memory");
    }
}

fn device_side() -> Queue {
    let mut queue = Queue::new(SIZE).expect("a size that is a power of two");
    let low = |address: u64| (u32::try_from(address).ok(), Some(0));
    queue.set_size(SIZE);
    let (table, high) = low(TABLE);
    queue.set_desc_table_address(table, high);
    let (available, high) = low(AVAILABLE);
    queue.set_avail_ring_address(available, high);
    let (used, high) = low(USED);
    queue.set_used_ring_address(used, high);
    queue.set_ready(true);
    queue
}

#[cfg(test)]
mod tests {
    use vmm::devices::virtio::chain::{Chain, Limits};
    use vmm::devices::virtio::live::Popped;

    use super::*;

    #[test]
    fn chains_come_as_they_were_laid_out() {
        let mut ring = Ring::new(1, 3, 4096);
        let limits = Limits {
            descriptors: 8,
            bytes: 1 << 20,
        };
        let mut chain = Chain::default();
        for _ in 0..1000 {
            ring.offer(1);
            assert!(matches!(ring.queue.pop(limits, &mut chain), Popped::Chain));
            assert_eq!(
                (chain.readable.len(), chain.writable.len()),
                (4096, 3 * 4096)
            );
            ring.queue.used(chain.head, 1);
        }
        assert!(matches!(ring.queue.pop(limits, &mut chain), Popped::Empty));
    }
}
