//! Walks the descriptor chains that a guest wrote and turns each into checked lists of memory segments.
//!
//! ```text
//!   avail ring ──► head ──► [desc] ─► [desc] ─► [desc] ─► [desc]      (Virtio 1.2, 2.7.5)
//!                            readable  readable │ writable  writable
//!                                  ▼            │       ▼
//!            Chain { head,  readable: Segments  │  writable: Segments }
//! ```
//!
//! The walk copies every descriptor once, so a guest that rewrites its table afterwards changes nothing. A chain comes
//! out only when all of this holds; otherwise the walk names the first rule that was broken:
//! 1. it has at most [`Limits::descriptors`] descriptors (a loop runs into this) and [`Limits::bytes`] bytes;
//! 2. every descriptor index lies in the table, and every segment in guest memory;
//! 3. no readable descriptor follows a writable one (2.7.4.2), and none is indirect: no device of ours offers
//!    VIRTIO_F_INDIRECT_DESC.
//!
//! Descriptors of length zero are allowed and leave no segment, but they count towards the limit.

use virtio_queue::desc::split::Descriptor;
use vm_memory::bitmap::BS;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, VolatileSlice};

use super::GuestMemory;

/// A stretch of guest memory as a host slice.
pub type GuestSlice<'m> =
    VolatileSlice<'m, BS<'m, <<GuestMemory as GuestMemoryBackend>::R as GuestMemoryRegion>::B>>;

/// How much one chain may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Descriptors in the chain, those of length zero included.
    pub descriptors: u16,
    /// Sum of the lengths of all descriptors, in bytes.
    pub bytes: u32,
}

/// Which rule a chain broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The chain loops or is longer than the device takes.
    #[error("the chain has more than {0} descriptors, or loops")]
    TooManyDescriptors(u16),
    /// The buffers add up to more than the device takes.
    #[error("the buffers of the chain add up to more than {0} bytes")]
    TooManyBytes(u32),
    /// A `next` field points outside the descriptor table.
    #[error("descriptor {index} lies outside the table of {size}")]
    OutsideTable {
        /// Index that was followed.
        index: u16,
        /// Descriptors in the table.
        size: u16,
    },
    /// The descriptor itself could not be read.
    #[error("the descriptor table at {0:#x} is not in guest memory")]
    UnreadableTable(u64),
    /// A buffer is not, or not wholly, in guest memory.
    #[error("the buffer of {len} bytes at {addr:#x} is not in guest memory")]
    OutsideMemory {
        /// Guest physical address of the buffer.
        addr: u64,
        /// Length of the buffer in bytes.
        len: u32,
    },
    /// An indirect table was used without the feature.
    #[error("the chain uses an indirect table, which was not negotiated")]
    Indirect,
    /// A device-readable buffer stands behind a device-writable one.
    #[error("a readable buffer follows a writable one")]
    ReadableAfterWritable,
}

/// A buffer in guest memory; whoever walked the chain has checked that it lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest physical address of the first byte.
    pub addr: GuestAddress,
    /// Length in bytes, never zero.
    pub len: u32,
}

/// One direction of a chain: its segments, read as one stream of bytes.
#[derive(Debug, Default)]
pub struct Segments {
    list: Vec<Segment>,
    len: u32,
}

impl Segments {
    /// Bytes in all segments.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of segments.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// The segments that hold bytes `offset .. offset + len` of the stream, cut to that range; fewer bytes when the
    /// stream ends earlier.
    pub fn range(&self, offset: u32, len: u32) -> impl Iterator<Item = Segment> + '_ {
        let mut skip = offset;
        let mut left = len;
        self.list.iter().filter_map(move |segment| {
            if left == 0 {
                return None;
            }
            if skip >= segment.len {
                skip -= segment.len;
                return None;
            }
            let cut = Segment {
                addr: GuestAddress(segment.addr.0 + u64::from(skip)),
                len: (segment.len - skip).min(left),
            };
            skip = 0;
            left -= cut.len;
            Some(cut)
        })
    }

    /// The same range as host slices; a segment that spans memory regions gives several.
    ///
    /// # Errors
    /// An item is an error when the segment is not in `memory`, which means that another memory was walked.
    pub fn slices<'m>(
        &self,
        memory: &'m GuestMemory,
        offset: u32,
        len: u32,
    ) -> impl Iterator<Item = Result<GuestSlice<'m>, vm_memory::GuestMemoryError>> {
        self.range(offset, len).flat_map(move |segment| {
            GuestMemoryBackend::get_slices(memory, segment.addr, segment.len as usize)
        })
    }

    /// Copies up to `buf.len()` bytes from `offset` of the stream into `buf`; returns how many there were.
    pub fn read_at(&self, memory: &GuestMemory, offset: u32, buf: &mut [u8]) -> usize {
        let want = u32::try_from(buf.len()).unwrap_or(u32::MAX);
        let mut done = 0;
        for slice in self.slices(memory, offset, want).map_while(Result::ok) {
            done += slice.copy_to(&mut buf[done..]);
        }
        done
    }

    /// Copies up to `buf.len()` bytes of `buf` to `offset` of the stream; returns how many fitted.
    pub fn write_at(&self, memory: &GuestMemory, offset: u32, buf: &[u8]) -> usize {
        let want = u32::try_from(buf.len()).unwrap_or(u32::MAX);
        let mut done = 0;
        for slice in self.slices(memory, offset, want).map_while(Result::ok) {
            slice.copy_from(&buf[done..]);
            done += slice.len();
        }
        done
    }

    /// Writes zeroes over up to `len` bytes from `offset` of the stream.
    pub fn zero(&self, memory: &GuestMemory, offset: u32, len: u32) {
        const ZEROES: [u8; 4096] = [0; 4096];
        for slice in self.slices(memory, offset, len).map_while(Result::ok) {
            let mut done = 0;
            while done < slice.len() {
                let step = ZEROES.len().min(slice.len() - done);
                if slice.write_slice(&ZEROES[..step], done).is_err() {
                    return;
                }
                done += step;
            }
        }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.len = 0;
    }

    fn push(&mut self, segment: Segment) {
        self.list.push(segment);
        self.len += segment.len;
    }
}

/// A chain that passed every check. One value is used again for chain after chain, so that walking does not allocate.
#[derive(Debug, Default)]
pub struct Chain {
    /// Index of the first descriptor, which names the chain in the used ring.
    pub head: u16,
    /// What the driver wrote for the device.
    pub readable: Segments,
    /// Where the device may answer.
    pub writable: Segments,
}

impl Chain {
    /// Replaces this chain by the one that starts at descriptor `head` of the table at `table`, of `size` descriptors.
    ///
    /// # Errors
    /// The first rule that the chain broke; the chain is then empty.
    pub fn walk(
        &mut self,
        memory: &GuestMemory,
        table: GuestAddress,
        size: u16,
        head: u16,
        limits: Limits,
    ) -> Result<(), ChainError> {
        self.clear(head);
        let walked = self.follow(memory, table, size, limits);
        if walked.is_err() {
            self.clear(head);
        }
        walked
    }

    fn clear(&mut self, head: u16) {
        self.head = head;
        self.readable.clear();
        self.writable.clear();
    }

    fn follow(
        &mut self,
        memory: &GuestMemory,
        table: GuestAddress,
        size: u16,
        limits: Limits,
    ) -> Result<(), ChainError> {
        let mut index = self.head;
        let mut bytes: u32 = 0;
        let mut writable_part = false;
        for _ in 0..limits.descriptors.min(size) {
            let descriptor = descriptor(memory, table, size, index)?;
            if descriptor.refers_to_indirect_table() {
                return Err(ChainError::Indirect);
            }
            if writable_part && !descriptor.is_write_only() {
                return Err(ChainError::ReadableAfterWritable);
            }
            writable_part = descriptor.is_write_only();
            bytes = bytes
                .checked_add(descriptor.len())
                .filter(|&sum| sum <= limits.bytes)
                .ok_or(ChainError::TooManyBytes(limits.bytes))?;
            if let Some(segment) = checked_segment(memory, &descriptor)? {
                match writable_part {
                    true => self.writable.push(segment),
                    false => self.readable.push(segment),
                }
            }
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
        }
        Err(ChainError::TooManyDescriptors(limits.descriptors.min(size)))
    }
}

fn descriptor(
    memory: &GuestMemory,
    table: GuestAddress,
    size: u16,
    index: u16,
) -> Result<Descriptor, ChainError> {
    if index >= size {
        return Err(ChainError::OutsideTable { index, size });
    }
    let unreadable = ChainError::UnreadableTable(table.0);
    let addr = table
        .0
        .checked_add(u64::from(index) * 16)
        .ok_or(unreadable)?;
    memory.read_obj(GuestAddress(addr)).map_err(|_| unreadable)
}

fn checked_segment(
    memory: &GuestMemory,
    descriptor: &Descriptor,
) -> Result<Option<Segment>, ChainError> {
    let (addr, len) = (descriptor.addr(), descriptor.len());
    if len == 0 {
        return Ok(None);
    }
    // A buffer that ends exactly at the top of the address space would make later sums wrap: no memory is there.
    let inside = addr.0.checked_add(u64::from(len)).is_some()
        && GuestMemoryBackend::check_range(memory, addr, len as usize);
    match inside {
        true => Ok(Some(Segment { addr, len })),
        false => Err(ChainError::OutsideMemory { addr: addr.0, len }),
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
