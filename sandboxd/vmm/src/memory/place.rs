//! Changing what lies behind guest addresses: the leaf that maps, unmaps, reads and writes guest memory by place.
//!
//! Every function cuts the range it is given to the regions of guest memory and refuses what reaches beyond them, so a wrong
//! number in a snapshot is an error and not a mapping somewhere else.
//!
//! Ordering rule: while a mapping is replaced, no virtual CPU runs and no device is active. KVM is told by its MMU notifier and
//! asks again at the next access.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::PAGE;
use crate::devices::virtio::GuestMemory;

/// A region of guest memory, or a part of one, in this process.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Place of its first byte.
    pub at: u64,
    /// Bytes.
    pub len: u64,
    /// Address in this process.
    pub host: *mut u8,
}

/// All regions in their order.
pub fn spans(memory: &GuestMemory) -> Vec<Span> {
    let mut at = 0;
    let spans = memory.iter().map(|region| {
        let span = Span {
            at,
            len: region.len(),
            host: region.as_ptr(),
        };
        at += span.len;
        span
    });
    spans.collect()
}

/// The place of a guest address; None outside memory.
pub fn of(memory: &GuestMemory, address: u64) -> Option<u64> {
    let mut at = 0;
    for region in memory.iter() {
        if let Some(offset) = address.checked_sub(region.start_addr().0)
            && offset < region.len()
        {
            return Some(at + offset);
        }
        at += region.len();
    }
    None
}

/// Bytes of guest memory.
pub fn size(memory: &GuestMemory) -> u64 {
    memory.iter().map(|region| region.len()).sum()
}

/// The parts of regions that hold the `len` bytes from place `at`.
fn cut(memory: &GuestMemory, at: u64, len: u64) -> io::Result<Vec<Span>> {
    let end = at.checked_add(len).filter(|&end| end <= size(memory));
    let end = end.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    let parts = spans(memory).into_iter().filter_map(|span| {
        let first = span.at.max(at);
        let last = (span.at + span.len).min(end);
        let skip = usize::try_from(first - span.at).ok()?;
        (first < last).then(|| Span {
            at: first,
            len: last - first,
            host: span.host.wrapping_add(skip),
        })
    });
    Ok(parts.collect())
}

/// As [`cut`], for whole pages.
fn pages(memory: &GuestMemory, at: u64, len: u64) -> io::Result<Vec<Span>> {
    match at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) {
        true => cut(memory, at, len),
        false => Err(ErrorKind::InvalidInput.into()),
    }
}

/// Maps `len` bytes of `file` from its byte `offset` privately to place `at`.
///
/// # Errors
/// When the range is not made of whole pages of guest memory, or the host refuses.
pub fn map(memory: &GuestMemory, file: &File, offset: u64, at: u64, len: u64) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
    for part in pages(memory, at, len)? {
        let offset = offset + (part.at - at);
        over(&part, flags, file.as_raw_fd(), offset)?;
    }
    Ok(())
}

/// Makes all of guest memory untouched again, whatever was mapped.
///
/// # Errors
/// When the host refuses.
pub fn blank(memory: &GuestMemory) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE | libc::MAP_ANONYMOUS;
    for span in spans(memory) {
        over(&span, flags, -1, 0)?;
    }
    keep_small(memory);
    Ok(())
}

fn over(span: &Span, flags: libc::c_int, fd: libc::c_int, offset: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from(ErrorKind::InvalidInput);
    let len = usize::try_from(span.len).map_err(invalid)?;
    let offset = libc::off_t::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the span lies in a mapping that guest memory owns (`cut`), so nothing of anybody else's is replaced. No Rust
    // reference into guest memory exists; volatile accesses find either the old or the new pages.
    let mapped = unsafe { libc::mmap(span.host.cast(), len, protection, flags, fd, offset) };
    match mapped == libc::MAP_FAILED {
        true => Err(io::Error::last_os_error()),
        false => Ok(()),
    }
}

/// Gives own pages of a range back to the host: what they read as afterwards is the snapshot's file or zeroes.
///
/// # Errors
/// When the range is not made of whole pages of guest memory, or the host refuses.
pub fn forget(memory: &GuestMemory, at: u64, len: u64) -> io::Result<()> {
    pages(memory, at, len)?
        .iter()
        .try_for_each(|part| advise(part, libc::MADV_DONTNEED))
}

/// Makes pages of a range this process's own ahead of the first write, with the bytes that they have.
///
/// # Errors
/// When the range is not made of whole pages of guest memory, or the host refuses.
pub fn own(memory: &GuestMemory, at: u64, len: u64) -> io::Result<()> {
    pages(memory, at, len)?
        .iter()
        .try_for_each(|part| advise(part, libc::MADV_POPULATE_WRITE))
}

/// The guest addresses of a range of places: (address, bytes) for each region that it touches.
///
/// # Errors
/// When the range is not in guest memory.
pub fn addresses(memory: &GuestMemory, at: u64, len: u64) -> io::Result<Vec<(u64, u64)>> {
    let parts = cut(memory, at, len)?;
    let regions = spans(memory);
    let address = |part: &Span| {
        let (span, region) = regions
            .iter()
            .zip(memory.iter())
            .find(|(span, _)| part.at >= span.at && part.at < span.at + span.len)?;
        Some((region.start_addr().0 + (part.at - span.at), part.len))
    };
    Ok(parts.iter().filter_map(address).collect())
}

/// Keeps huge pages out. A host without them has nothing to keep out.
pub fn keep_small(memory: &GuestMemory) {
    for span in spans(memory) {
        let _ = advise(&span, libc::MADV_NOHUGEPAGE);
    }
}

fn advise(span: &Span, advice: libc::c_int) -> io::Result<()> {
    let len = usize::try_from(span.len).map_err(|_| ErrorKind::InvalidInput)?;
    // SAFETY: the span lies in a mapping that guest memory owns, and none of the advices used here does more than drop or
    // fetch its pages; no Rust reference into guest memory exists.
    match unsafe { libc::madvise(span.host.cast(), len, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads `len` bytes of `file` from its byte `offset` to place `at`.
///
/// # Errors
/// When the range is not in guest memory, the file ends early or the host fails.
pub fn read(memory: &GuestMemory, file: &File, offset: u64, at: u64, len: u64) -> io::Result<()> {
    for part in cut(memory, at, len)? {
        transfer(&part, offset + (part.at - at), |to, len, offset| {
            // SAFETY: `transfer` gives ranges inside the part, which lies in guest memory; the kernel writes only there.
            unsafe { libc::pread(file.as_raw_fd(), to.cast(), len, offset) }
        })?;
    }
    Ok(())
}

/// Writes `len` bytes of guest memory from place `at` to `file` at its byte `offset`.
///
/// # Errors
/// When the range is not in guest memory or the host fails.
pub fn write(memory: &GuestMemory, file: &File, offset: u64, at: u64, len: u64) -> io::Result<()> {
    for part in cut(memory, at, len)? {
        transfer(&part, offset + (part.at - at), |from, len, offset| {
            // SAFETY: `transfer` gives ranges inside the part, which lies in guest memory; the kernel only reads them.
            unsafe { libc::pwrite(file.as_raw_fd(), from.cast(), len, offset) }
        })?;
    }
    Ok(())
}

fn transfer(
    part: &Span,
    offset: u64,
    mut step: impl FnMut(*mut u8, usize, libc::off_t) -> isize,
) -> io::Result<()> {
    let len = usize::try_from(part.len).map_err(|_| ErrorKind::InvalidInput)?;
    let mut done = 0;
    while done < len {
        let at =
            libc::off_t::try_from(offset + done as u64).map_err(|_| ErrorKind::InvalidInput)?;
        match usize::try_from(step(part.host.wrapping_add(done), len - done, at)) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(moved) => done += moved,
            Err(_) => match io::Error::last_os_error() {
                why if why.kind() == ErrorKind::Interrupted => {}
                why => return Err(why),
            },
        }
    }
    Ok(())
}

/// Makes a range read as zeroes.
///
/// # Errors
/// When the range is not in guest memory.
pub fn zero(memory: &GuestMemory, at: u64, len: u64) -> io::Result<()> {
    for part in cut(memory, at, len)? {
        let len = usize::try_from(part.len).map_err(|_| ErrorKind::InvalidInput)?;
        // SAFETY: the part lies in guest memory, which is mapped writable; no Rust reference into it exists.
        unsafe { std::ptr::write_bytes(part.host, 0, len) };
    }
    Ok(())
}

/// Calls `each` with every page of a range: its place and its bytes. For a guest that stands still, with devices locked: then
/// nobody writes to the pages while they are looked at.
///
/// # Errors
/// When the range is not made of whole pages of guest memory.
pub fn each_page(
    memory: &GuestMemory,
    at: u64,
    len: u64,
    mut each: impl FnMut(u64, &[u8]),
) -> io::Result<()> {
    let step = usize::try_from(PAGE).unwrap_or_default();
    for part in pages(memory, at, len)? {
        for page in 0..part.len / PAGE {
            let offset = usize::try_from(page * PAGE).map_err(|_| ErrorKind::InvalidInput)?;
            // SAFETY: the page lies in guest memory, mapped readable. The caller has stopped everyone who writes to it, so the
            // bytes do not change while the slice lives.
            let bytes = unsafe { std::slice::from_raw_parts(part.host.wrapping_add(offset), step) };
            each(part.at + page * PAGE, bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::arch::x86_64::layout::Range;

    fn memory() -> GuestMemory {
        let range = |start| Range {
            start,
            len: 0x10000,
        };
        crate::memory::create(&[range(0), range(1 << 32)]).unwrap()
    }

    fn file(pages: u8) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for page in 0..pages {
            file.write_all(&[page + 1; 4096]).unwrap();
        }
        file
    }

    #[test]
    fn a_range_may_cross_regions_but_not_the_end() {
        let (memory, file) = (memory(), file(4));
        map(&memory, &file, 0x1000, 0xf000, 0x2000).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0xf000)).unwrap(), 2);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(1 << 32)).unwrap(), 3);
        for (at, len) in [
            (0x20000, 0x1000),
            (0x1f000, 0x2000),
            (u64::MAX - 0xfff, 0x1000),
        ] {
            assert!(map(&memory, &file, 0, at, len).is_err(), "{at:#x}");
            assert!(read(&memory, &file, 0, at, len).is_err(), "{at:#x}");
            assert!(zero(&memory, at, len).is_err(), "{at:#x}");
        }
        assert!(map(&memory, &file, 0, 0x10, 0x1000).is_err());
        assert!(forget(&memory, 0, 0x10).is_err());
    }

    #[test]
    fn what_is_written_to_memory_never_reaches_the_file() {
        let (memory, file) = (memory(), file(1));
        map(&memory, &file, 0, 0, 0x1000).unwrap();
        memory.write_obj(9u8, GuestAddress(0)).unwrap();
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, 0).unwrap();
        assert_eq!(byte, [1]);
        blank(&memory).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0)).unwrap(), 0);
    }

    #[test]
    fn bytes_go_out_and_come_back() {
        let (memory, file) = (memory(), tempfile::tempfile().unwrap());
        memory
            .write_slice(&[5; 0x3000], GuestAddress(0x1000))
            .unwrap();
        write(&memory, &file, 0x8000, 0x1000, 0x3000).unwrap();
        zero(&memory, 0x1000, 0x3000).unwrap();
        read(&memory, &file, 0x8000, 0xf000, 0x3000).unwrap();
        assert_eq!(
            memory
                .read_obj::<u8>(GuestAddress((1 << 32) + 0x1fff))
                .unwrap(),
            5
        );
        assert!(
            read(&memory, &file, 0x9000, 0, 0x3000).is_err(),
            "cut short"
        );
        let mut pages = Vec::new();
        each_page(&memory, 0xe000, 0x2000, |at, bytes| {
            pages.push((at, bytes[9]))
        })
        .unwrap();
        assert_eq!(pages, [(0xe000, 0), (0xf000, 5)]);
    }
}
