//! Guest memory: one private mapping per range of guest addresses, cut around the hole for devices.
//!
//! ```text
//!   reserved (anonymous, not one page yet) ──boot──► pages appear as they are touched: all of them are the guest's own
//!        │
//!        └──restore──► file pages of a snapshot mapped privately over it ──write──► own copies of the pages written
//! ```
//!
//! **Own pages are what a snapshot has to write.** In a private mapping a page is either a page of the snapshot's file, which
//! nobody changes, or an anonymous page of this process. Every write makes the second out of the first, whoever writes: the
//! guest, a device of ours, or the kernel on behalf of one (`preadv` into a buffer of the guest). So the host's page tables
//! already hold the answer to "what changed since", without a dirty log in KVM (which would make the guest fault at each first
//! write and change memory slots, some milliseconds on some hosts), and without a second log for what devices write that could
//! forget a place. [`pagemap`] asks for it.
//!
//! A position in guest memory without the hole (`at` below: the offset in a snapshot's memory file) is called a place.

pub mod pagemap;
pub mod place;
pub mod record;

use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::arch::x86_64::layout::Range;
use crate::devices::virtio::GuestMemory;

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// Why guest memory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A range is larger than the address space of this process.
    #[error("a memory range of {0} bytes does not fit into this process")]
    TooLarge(u64),
    /// The mapping failed.
    #[error("guest memory could not be mapped: {0}")]
    Map(#[from] vm_memory::mmap::MmapRegionError),
    /// The ranges overlap.
    #[error("guest memory could not be put together: {0}")]
    Ranges(#[from] vm_memory::GuestRegionCollectionError),
}

/// Reserves guest memory for `ranges`; it reads as zeroes and takes no page until one is touched.
///
/// Huge pages are kept out: a clone that writes four kilobytes must not take two megabytes.
///
/// # Errors
/// See [`MemoryError`].
pub fn create(ranges: &[Range]) -> Result<GuestMemory, MemoryError> {
    let mut regions = Vec::with_capacity(ranges.len());
    for range in ranges {
        let too_large = || MemoryError::TooLarge(range.len);
        let len = usize::try_from(range.len).map_err(|_| too_large())?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mapping = MmapRegion::build(None, len, protection, flags)?;
        regions
            .push(GuestRegionMmap::new(mapping, GuestAddress(range.start)).ok_or_else(too_large)?);
    }
    let memory = GuestMemoryMmap::from_regions(regions)?;
    place::keep_small(&memory);
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestMemoryBackend};

    use super::*;

    #[test]
    fn ranges_are_reserved_and_read_as_zeroes() {
        let ranges = [
            Range {
                start: 0,
                len: 1 << 20,
            },
            Range {
                start: 1 << 32,
                len: 2 << 20,
            },
        ];
        let memory = create(&ranges).unwrap();
        assert_eq!(memory.iter().count(), 2);
        assert_eq!(
            memory.read_obj::<u64>(GuestAddress((1 << 32) + 8)).unwrap(),
            0
        );
        memory.write_obj(7u32, GuestAddress(1 << 32)).unwrap();
        assert_eq!(memory.read_obj::<u32>(GuestAddress(1 << 32)).unwrap(), 7);
    }

    #[test]
    fn too_much_is_an_error() {
        let range = Range {
            start: 0,
            len: 1 << 60,
        };
        assert!(create(&[range]).is_err());
    }
}
