//! The address buses of the machine: which device answers at which port or guest-physical address.
//!
//! ```text
//!   vCPU exit (address, bytes) ──► Bus::read / Bus::write ──► device (offset from its base, bytes)
//! ```
//!
//! A bus is filled while the machine is built and read-only afterwards, so looking a device up takes no lock; only the
//! device itself does. An access that no device claims, or that runs over the end of one, reads as all ones as an
//! unconnected bus does, and is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// Something that answers reads and writes at an offset from its base.
pub trait BusDevice: Send {
    /// Reads `data.len()` bytes at `offset`; what the device does not know reads as zero.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// Writes `data` at `offset`; what the device does not allow is ignored.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// Why a device could not be put on the bus.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BusError {
    /// A device must take at least one address.
    #[error("a device with no addresses cannot be put on a bus")]
    Empty,
    /// The range wraps around the end of the address space.
    #[error("the range at {base:#x} of {len:#x} addresses runs over the end of the address space")]
    Overflow {
        /// First address.
        base: u64,
        /// Number of addresses.
        len: u64,
    },
    /// Another device already answers at one of these addresses.
    #[error("the range at {base:#x} of {len:#x} addresses overlaps the device at {other:#x}")]
    Overlap {
        /// First address.
        base: u64,
        /// Number of addresses.
        len: u64,
        /// First address of the device in the way.
        other: u64,
    },
}

struct Slot {
    len: u64,
    device: Arc<Mutex<dyn BusDevice>>,
}

/// Devices by the address they start at.
#[derive(Default)]
pub struct Bus {
    slots: BTreeMap<u64, Slot>,
    unclaimed: AtomicU64,
}

impl Bus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at `len` addresses from `base`.
    ///
    /// # Errors
    /// When the range is empty, wraps, or overlaps another device.
    pub fn insert(
        &mut self,
        base: u64,
        len: u64,
        device: Arc<Mutex<dyn BusDevice>>,
    ) -> Result<(), BusError> {
        if len == 0 {
            return Err(BusError::Empty);
        }
        let last = base
            .checked_add(len - 1)
            .ok_or(BusError::Overflow { base, len })?;
        if let Some((&other, slot)) = self.slots.range(..=last).next_back()
            && other + (slot.len - 1) >= base
        {
            return Err(BusError::Overlap { base, len, other });
        }
        self.slots.insert(base, Slot { len, device });
        Ok(())
    }

    /// Reads from whichever device answers at `address`; all ones when none does. Says whether one did.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        match self.find(address, data.len()) {
            Some((offset, device)) => {
                lock(device).read(offset, data);
                true
            }
            None => {
                data.fill(0xff);
                self.unclaimed.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Writes to whichever device answers at `address`. Says whether one did.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        match self.find(address, data.len()) {
            Some((offset, device)) => {
                lock(device).write(offset, data);
                true
            }
            None => {
                self.unclaimed.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Accesses so far that no device claimed.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed.load(Ordering::Relaxed)
    }

    fn find(&self, address: u64, len: usize) -> Option<(u64, &Mutex<dyn BusDevice>)> {
        let (&base, slot) = self.slots.range(..=address).next_back()?;
        let offset = address - base;
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        (len > 0 && end <= slot.len).then_some((offset, &*slot.device))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Answers each byte with its own offset and remembers what was written.
    #[derive(Default)]
    struct Echo(Vec<(u64, Vec<u8>)>);

    impl BusDevice for Echo {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            for (byte, at) in data.iter_mut().zip(offset..) {
                *byte = at.to_le_bytes()[0];
            }
        }
        fn write(&mut self, offset: u64, data: &[u8]) {
            self.0.push((offset, data.to_vec()));
        }
    }

    fn echo() -> Arc<Mutex<Echo>> {
        Arc::new(Mutex::new(Echo::default()))
    }

    #[test]
    fn routes_by_address() {
        let mut bus = Bus::new();
        let device = echo();
        bus.insert(0x1000, 0x10, device.clone()).unwrap();
        let mut data = [0u8; 2];
        assert!(bus.read(0x1004, &mut data));
        assert_eq!(data, [4, 5]);
        assert!(bus.write(0x100f, &[9]));
        assert_eq!(lock(&device).0, [(0xf, vec![9])]);
    }

    #[test]
    fn an_access_over_the_end_is_not_claimed() {
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x10, echo()).unwrap();
        let mut data = [0u8; 4];
        assert!(!bus.read(0x100e, &mut data));
        assert_eq!(data, [0xff; 4]);
        assert!(!bus.write(0xfff, &[1]));
        assert!(!bus.write(u64::MAX, &[1, 2]));
        assert_eq!(bus.unclaimed(), 3);
    }

    #[test]
    fn refuses_bad_ranges() {
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x10, echo()).unwrap();
        assert_eq!(bus.insert(5, 0, echo()), Err(BusError::Empty));
        assert_eq!(
            bus.insert(u64::MAX, 2, echo()),
            Err(BusError::Overflow {
                base: u64::MAX,
                len: 2
            })
        );
        for (base, len) in [(0x1000, 1), (0x100f, 1), (0xff0, 0x11), (0xff0, 0x100)] {
            assert_eq!(
                bus.insert(base, len, echo()),
                Err(BusError::Overlap {
                    base,
                    len,
                    other: 0x1000
                })
            );
        }
        bus.insert(0x1010, 1, echo()).unwrap();
        bus.insert(u64::MAX, 1, echo()).unwrap();
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            ranges in prop::collection::vec((0u64..256, 1u64..32), 0..12),
            accesses in prop::collection::vec((0u64..300, 1usize..9), 0..40),
        ) {
            let mut bus = Bus::new();
            let mut kept: Vec<(u64, u64)> = Vec::new();
            for (base, len) in ranges {
                let free = kept.iter().all(|&(b, l)| base + len <= b || b + l <= base);
                prop_assert_eq!(bus.insert(base, len, echo()).is_ok(), free);
                if free {
                    kept.push((base, len));
                }
            }
            for (address, len) in accesses {
                let want = kept
                    .iter()
                    .find(|&&(b, l)| b <= address && address + len as u64 <= b + l);
                let mut data = vec![0u8; len];
                prop_assert_eq!(bus.read(address, &mut data), want.is_some());
                let first = want.map_or(0xff, |&(b, _)| (address - b).to_le_bytes()[0]);
                prop_assert_eq!(data[0], first);
            }
        }
    }
}
