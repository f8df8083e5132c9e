//! Which pages of guest memory are this process's own: present or swapped, and neither a file's nor the shared page of zeroes.
//!
//! ```text
//!   PAGEMAP_SCAN (Linux 6.7): ranges, whole empty tables skipped ── refused ──► /proc/self/pagemap, eight bytes a page
//! ```
//!
//! Linux, Documentation/admin-guide/mm/pagemap.rst. The file is opened when the process starts: later nothing can be opened
//! from a jail. In the older way the page of zeroes counts as own; whoever reads its bytes sees that they are zeroes.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::PAGE;
use super::place::{self, Span};
use crate::devices::virtio::GuestMemory;

const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_PFNZERO: u64 = 1 << 5;
/// Ranges taken from one call.
const BATCH: usize = 512;

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Pages that this process has written: no file's, not the page of zeroes.
    Own,
    /// Pages that are in memory, own or a file's.
    Resident,
}

/// The open `/proc/self/pagemap`.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
    scans: AtomicBool,
}

impl Pagemap {
    /// Opens it.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            file: File::open("/proc/self/pagemap")?,
            scans: AtomicBool::new(true),
        })
    }

    /// The ranges of places whose pages count, ascending, without touching neighbours: (place, bytes).
    ///
    /// # Errors
    /// When the kernel refuses both ways of asking.
    pub fn find(&self, memory: &GuestMemory, which: Which) -> io::Result<Vec<(u64, u64)>> {
        let mut found = Vec::new();
        for span in place::spans(memory) {
            if self.scans.load(Ordering::Relaxed) {
                match self.scan(&span, which, &mut found) {
                    Err(why) if why.raw_os_error() == Some(libc::ENOTTY) => {
                        self.scans.store(false, Ordering::Relaxed);
                    }
                    done => {
                        done?;
                        continue;
                    }
                }
            }
            self.read(&span, which, &mut found)?;
        }
        Ok(found)
    }

    fn scan(&self, span: &Span, which: Which, found: &mut Vec<(u64, u64)>) -> io::Result<()> {
        let mut regions = [Region::default(); BATCH];
        let first = span.host as u64;
        let end = first + span.len;
        let not = match which {
            Which::Own => IS_FILE | IS_PFNZERO,
            Which::Resident => 0,
        };
        let mut start = first;
        while start < end {
            let mut arg = ScanArg {
                size: size_of::<ScanArg>() as u64,
                start,
                end,
                vec: regions.as_mut_ptr().expose_provenance() as u64,
                vec_len: BATCH as u64,
                category_inverted: not,
                category_mask: not,
                category_anyof_mask: IS_PRESENT | IS_SWAPPED,
                return_mask: IS_PRESENT,
                ..ScanArg::default()
            };
            // SAFETY: `arg` is the structure of this call, and `vec` points to as many regions as `vec_len` says; both live
            // through it. The call changes nothing but them.
            let got = unsafe {
                libc::ioctl(
                    self.file.as_raw_fd(),
                    PAGEMAP_SCAN,
                    std::ptr::from_mut(&mut arg),
                )
            };
            let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
            for region in &regions[..got.min(BATCH)] {
                let at = span.at + (region.start - first);
                add(found, at, region.end - region.start);
            }
            if arg.walk_end <= start {
                break;
            }
            start = arg.walk_end;
        }
        Ok(())
    }

    fn read(&self, span: &Span, which: Which, found: &mut Vec<(u64, u64)>) -> io::Result<()> {
        let mut bytes = vec![0u8; 64 << 10];
        let pages = span.len / PAGE;
        let mut page = 0;
        while page < pages {
            let batch = (pages - page).min(bytes.len() as u64 / 8);
            let part = &mut bytes[..usize::try_from(batch * 8).unwrap_or_default()];
            let at = (span.host as u64 / PAGE + page) * 8;
            self.file.read_exact_at(part, at)?;
            for (offset, word) in (0u64..).zip(part.chunks_exact(8)) {
                let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
                if counts(word, which) {
                    add(found, span.at + (page + offset) * PAGE, PAGE);
                }
            }
            page += batch;
        }
        Ok(())
    }
}

/// Whether a word of the older interface speaks of a page that counts: bit 63 present, 62 swapped, 61 a file's.
fn counts(word: u64, which: Which) -> bool {
    let there = word >> 62 != 0;
    match which {
        Which::Own => there && word >> 61 & 1 == 0,
        Which::Resident => there,
    }
}

fn add(found: &mut Vec<(u64, u64)>, at: u64, len: u64) {
    match found.last_mut() {
        Some(last) if last.0 + last.1 == at => last.1 += len,
        _ => found.push((at, len)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::arch::x86_64::layout::Range;

    fn both(pagemap: &Pagemap, memory: &GuestMemory) -> Vec<(u64, u64)> {
        let found = pagemap.find(memory, Which::Own).unwrap();
        let older = Pagemap::open().unwrap();
        older.scans.store(false, Ordering::Relaxed);
        assert_eq!(older.find(memory, Which::Own).unwrap(), found);
        found
    }

    #[test]
    fn written_pages_are_own_and_read_ones_are_not() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 8 * 4096]).unwrap();
        let ranges = [
            Range {
                start: 0,
                len: 1 << 20,
            },
            Range {
                start: 1 << 32,
                len: 1 << 20,
            },
        ];
        let memory = crate::memory::create(&ranges).unwrap();
        let pagemap = Pagemap::open().unwrap();
        assert_eq!(both(&pagemap, &memory), []);
        place::map(&memory, &file, 0x1000, 0x1000, 4 * 4096).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x1000)).unwrap(), 7);
        assert_eq!(both(&pagemap, &memory), [], "a file's page is not own");
        memory.write_obj(1u8, GuestAddress(0x2005)).unwrap();
        memory.write_obj(1u8, GuestAddress(0x3005)).unwrap();
        memory.write_obj(1u8, GuestAddress(1 << 32)).unwrap();
        assert_eq!(
            both(&pagemap, &memory),
            [(0x2000, 0x2000), (1 << 20, 0x1000)]
        );
        place::forget(&memory, 0x2000, 0x1000).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x2005)).unwrap(), 7);
        assert_eq!(
            both(&pagemap, &memory),
            [(0x3000, 0x1000), (1 << 20, 0x1000)]
        );
        let resident = pagemap.find(&memory, Which::Resident).unwrap();
        assert!(resident.iter().map(|range| range.1).sum::<u64>() >= 4 * 4096);
    }

    #[test]
    fn words_of_the_older_interface() {
        assert!(counts(1 << 63, Which::Own) && counts(1 << 62, Which::Own));
        assert!(!counts(1 << 63 | 1 << 61, Which::Own) && !counts(1 << 61, Which::Resident));
        assert!(counts(1 << 63 | 1 << 61, Which::Resident));
    }
}
