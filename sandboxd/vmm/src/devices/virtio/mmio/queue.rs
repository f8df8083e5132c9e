//! A queue while its driver sets it up, and the check that it lies in guest memory.
//!
//! Ring sizes for a queue of N descriptors (Virtio 1.2, 2.7): descriptor table 16·N bytes, aligned to 16; available ring
//! 6 + 2·N bytes, aligned to 2; used ring 6 + 8·N bytes, aligned to 4.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryBackend};

/// One of the three parts of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// The descriptor table.
    Descriptors,
    /// The ring that the driver writes.
    Available,
    /// The ring that the device writes.
    Used,
}

/// Which 32 bits of an address are written.
#[derive(Clone, Copy, Debug)]
pub enum Half {
    /// Bits 0 to 31.
    Low,
    /// Bits 32 to 63.
    High,
}

/// Why a queue that the driver enabled cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueueError {
    /// The size is zero, above the maximum, or no power of two.
    #[error("a queue of {size} descriptors is not a power of two between 1 and {max}")]
    Size {
        /// What the driver wrote.
        size: u32,
        /// Largest size.
        max: u16,
    },
    /// A part is not aligned as it must be.
    #[error("the queue's {ring:?} part at {address:#x} is misaligned")]
    Misaligned {
        /// The part.
        ring: Ring,
        /// Where the driver put it.
        address: u64,
    },
    /// A part does not lie in guest memory.
    #[error("the queue's {ring:?} part at {address:#x} does not lie in guest memory")]
    OutsideMemory {
        /// The part.
        ring: Ring,
        /// Where the driver put it.
        address: u64,
    },
}

/// What a driver has written about one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSetup {
    max_size: u16,
    size: u32,
    ready: bool,
    descriptors: u64,
    available: u64,
    used: u64,
}

impl QueueSetup {
    /// A queue as it is after reset: the size stands at the maximum.
    pub fn new(max_size: u16) -> Self {
        let size = u32::from(max_size);
        Self {
            max_size,
            size,
            ready: false,
            descriptors: 0,
            available: 0,
            used: 0,
        }
    }

    /// Largest size.
    pub fn max_size(&self) -> u16 {
        self.max_size
    }

    /// Whether the driver enabled the queue.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// Takes a size; whether it is a good one is checked when the queue is built.
    pub fn set_size(&mut self, size: u32) {
        if !self.ready {
            self.size = size;
        }
    }

    /// Enables or disables the queue.
    pub fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// Takes half of the address of one part.
    pub fn set_address(&mut self, ring: Ring, half: Half, value: u32) {
        if self.ready {
            return;
        }
        let address = match ring {
            Ring::Descriptors => &mut self.descriptors,
            Ring::Available => &mut self.available,
            Ring::Used => &mut self.used,
        };
        *address = match half {
            Half::Low => (*address & !0xffff_ffff) | u64::from(value),
            Half::High => (*address & 0xffff_ffff) | (u64::from(value) << 32),
        };
    }

    /// Makes the queue that the device works on; one that the driver did not enable stays not ready.
    ///
    /// # Errors
    /// When an enabled queue has a bad size or a part outside guest memory.
    pub fn build<M: GuestMemoryBackend>(
        &self,
        memory: &M,
        event_idx: bool,
    ) -> Result<Queue, QueueError> {
        let bad_size = QueueError::Size {
            size: self.size,
            max: self.max_size,
        };
        let mut queue = Queue::new(self.max_size).map_err(|_| QueueError::Size {
            size: u32::from(self.max_size),
            max: self.max_size,
        })?;
        if !self.ready {
            return Ok(queue);
        }
        let size = match u16::try_from(self.size) {
            Ok(size) if size.is_power_of_two() && size <= self.max_size => size,
            _ => return Err(bad_size),
        };
        let count = usize::from(size);
        let parts = [
            (Ring::Descriptors, self.descriptors, 16, 16 * count),
            (Ring::Available, self.available, 2, 6 + 2 * count),
            (Ring::Used, self.used, 4, 6 + 8 * count),
        ];
        for (ring, address, align, len) in parts {
            if !address.is_multiple_of(align) {
                return Err(QueueError::Misaligned { ring, address });
            }
            let end_fits = address.checked_add(len as u64).is_some();
            if !end_fits || !memory.check_range(GuestAddress(address), len) {
                return Err(QueueError::OutsideMemory { ring, address });
            }
        }
        let placed = queue
            .try_set_size(size)
            .and_then(|()| queue.try_set_desc_table_address(GuestAddress(self.descriptors)))
            .and_then(|()| queue.try_set_avail_ring_address(GuestAddress(self.available)))
            .and_then(|()| queue.try_set_used_ring_address(GuestAddress(self.used)));
        placed.map_err(|_| bad_size)?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        Ok(queue)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::GuestMemoryMmap;

    use super::*;

    const MEMORY: u64 = 0x10000;

    fn memory() -> GuestMemoryMmap {
        // Two regions with a hole between them: a ring must not run across it.
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8000), (GuestAddress(MEMORY), 0x8000)])
            .unwrap()
    }

    fn setup(size: u32, descriptors: u64, available: u64, used: u64) -> QueueSetup {
        QueueSetup {
            max_size: 256,
            size,
            ready: true,
            descriptors,
            available,
            used,
        }
    }

    #[test]
    fn builds_a_good_queue() {
        let queue = setup(16, 0x1000, 0x2000, 0x3000)
            .build(&memory(), true)
            .unwrap();
        assert!(queue.ready() && queue.is_valid(&memory()) && queue.event_idx_enabled());
        assert_eq!(
            (
                queue.size(),
                queue.desc_table(),
                queue.avail_ring(),
                queue.used_ring()
            ),
            (16, 0x1000, 0x2000, 0x3000)
        );
    }

    #[test]
    fn a_disabled_queue_is_not_checked() {
        let mut bad = setup(3, 1, 1, u64::MAX);
        bad.set_ready(false);
        assert!(!bad.build(&memory(), false).unwrap().ready());
    }

    #[test]
    fn refuses_bad_queues() {
        for size in [0, 3, 512, 65536, u32::MAX] {
            assert_eq!(
                setup(size, 0x1000, 0x2000, 0x3000).build(&memory(), false),
                Err(QueueError::Size { size, max: 256 })
            );
        }
        let misaligned = |ring, address| Err(QueueError::Misaligned { ring, address });
        assert_eq!(
            setup(16, 0x1008, 0x2000, 0x3000).build(&memory(), false),
            misaligned(Ring::Descriptors, 0x1008)
        );
        assert_eq!(
            setup(16, 0x1000, 0x2001, 0x3000).build(&memory(), false),
            misaligned(Ring::Available, 0x2001)
        );
        assert_eq!(
            setup(16, 0x1000, 0x2000, 0x3002).build(&memory(), false),
            misaligned(Ring::Used, 0x3002)
        );
        let outside = |ring, address| Err(QueueError::OutsideMemory { ring, address });
        assert_eq!(
            setup(256, 0x7ff0, 0x2000, 0x3000).build(&memory(), false),
            outside(Ring::Descriptors, 0x7ff0)
        );
        assert_eq!(
            setup(16, 0x1000, 0x9000, 0x3000).build(&memory(), false),
            outside(Ring::Available, 0x9000)
        );
        assert_eq!(
            setup(16, 0x1000, 0x2000, u64::MAX - 3).build(&memory(), false),
            outside(Ring::Used, u64::MAX - 3)
        );
    }

    #[test]
    fn an_enabled_queue_is_frozen() {
        let mut queue = setup(16, 0x1000, 0x2000, 0x3000);
        let before = queue.clone();
        queue.set_size(8);
        queue.set_address(Ring::Used, Half::High, 7);
        assert_eq!(queue, before);
    }

    proptest! {
        #[test]
        fn what_is_built_is_valid(size in prop_oneof![Just(1u32), Just(64), Just(256), any::<u32>()],
                                  d in 0u64..0x20000, a in 0u64..0x20000, u in 0u64..0x20000) {
            let memory = memory();
            if let Ok(queue) = setup(size, d & !15, a & !1, u & !3).build(&memory, false) {
                prop_assert!(queue.is_valid(&memory));
                let n = usize::from(queue.size());
                for (at, len) in [(d & !15, 16 * n), (a & !1, 6 + 2 * n), (u & !3, 6 + 8 * n)] {
                    prop_assert!(memory.check_range(GuestAddress(at), len));
                }
            }
        }
    }
}
