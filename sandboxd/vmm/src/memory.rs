//! Guest memory: one sealed memfd, mapped shared, cut around the hole for devices.
//!
//! A memfd rather than anonymous memory so that a snapshot can be taken from the file and so that guest pages are counted
//! apart from the process's own (`RssShmem` in `/proc/self/status`). Pages come into being when first touched.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use crate::arch::x86_64::layout::Range;
use crate::devices::virtio::GuestMemory;

/// Why guest memory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The memfd could not be made, sized or sealed.
    #[error("guest memory could not be {step}: {error}")]
    File {
        /// Which step failed.
        step: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// A range is larger than the address space of this process.
    #[error("a memory range of {0} bytes does not fit into this process")]
    TooLarge(u64),
    /// The mapping failed.
    #[error("guest memory could not be mapped: {0}")]
    Map(#[from] vm_memory::mmap::FromRangesError),
}

/// Makes and maps guest memory for `ranges`.
///
/// # Errors
/// See [`MemoryError`].
pub fn create(ranges: &[Range]) -> Result<GuestMemory, MemoryError> {
    let file = Arc::new(memfd(ranges.iter().map(|range| range.len).sum())?);
    let mut offset = 0;
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let len = usize::try_from(range.len).map_err(|_| MemoryError::TooLarge(range.len))?;
        let part = FileOffset::from_arc(Arc::clone(&file), offset);
        parts.push((GuestAddress(range.start), len, Some(part)));
        offset += range.len;
    }
    Ok(GuestMemoryMmap::from_ranges_with_files(parts)?)
}

fn memfd(len: u64) -> Result<File, MemoryError> {
    let failed = |step| move |error: std::io::Error| MemoryError::File { step, error };
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file =
        memfd_create(c"guest-memory", flags).map_err(|errno| failed("created")(errno.into()))?;
    let file = File::from(file);
    file.set_len(len).map_err(failed("sized"))?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals))
        .map_err(|errno| failed("sealed")(errno.into()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

    use super::*;

    #[test]
    fn ranges_are_parts_of_one_sealed_file() {
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
        memory.write_obj(7u32, GuestAddress(1 << 32)).unwrap();
        let regions: Vec<_> = memory.iter().collect();
        assert_eq!(regions.len(), 2);
        let part = regions[1].file_offset().unwrap();
        assert_eq!(part.start(), 1 << 20);
        let mut bytes = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(part.file(), &mut bytes, 1 << 20).unwrap();
        assert_eq!(u32::from_le_bytes(bytes), 7);
        assert!(
            part.file().set_len(1).is_err(),
            "the file must not shrink under the mapping"
        );
    }
}
