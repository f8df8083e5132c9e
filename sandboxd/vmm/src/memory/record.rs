//! Having the host keep exact books of the pages that a guest touches.
//!
//! When a page of a file is read, the kernel maps its neighbours too, so what is mapped says little about what was touched. It
//! leaves that out for memory that is registered for write protection with userfaultfd (Linux, mm/memory.c,
//! `should_fault_around`). So registering is all that is done: nothing is ever protected, no message ever comes, and closing
//! the descriptor ends it.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::place;
use crate::devices::virtio::GuestMemory;

const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
/// Write protection is lifted by the kernel itself; with it any kind of mapping can be registered.
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const MODE_WP: u64 = 1 << 1;

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// Exact books, as long as it lives.
#[derive(Debug)]
pub struct Recording(#[allow(dead_code)] OwnedFd);

impl Recording {
    /// Begins. Pages that are mapped already count as touched.
    ///
    /// # Errors
    /// When the host has no userfaultfd for this process, or an older one.
    pub fn start(memory: &GuestMemory) -> io::Result<Self> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: the call takes flags and gives a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut api = Api {
            api: UFFD_API,
            features: FEATURE_WP_ASYNC,
            ioctls: 0,
        };
        // SAFETY: the call reads and writes one `uffdio_api`, which lives through it.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, &raw mut api) })?;
        for span in place::spans(memory) {
            let mut register = Register {
                start: span.host as u64,
                len: span.len,
                mode: MODE_WP,
                ioctls: 0,
            };
            // SAFETY: the call reads and writes one `uffdio_register`, which lives through it; the range is guest memory, and
            // registering for write protection changes no page of it.
            check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_REGISTER, &raw mut register) })?;
        }
        Ok(Self(fd))
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::arch::x86_64::layout::Range;
    use crate::memory::pagemap::{Pagemap, Which};

    #[test]
    fn only_touched_pages_are_counted() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 64 * 4096]).unwrap();
        let range = Range {
            start: 0,
            len: 64 * 4096,
        };
        let memory = crate::memory::create(&[range]).unwrap();
        place::map(&memory, &file, 0, 0, 64 * 4096).unwrap();
        let recording = match Recording::start(&memory) {
            Ok(recording) => recording,
            Err(why) => return println!("not run: {why}"),
        };
        let _: u8 = memory.read_obj(GuestAddress(20 * 4096)).unwrap();
        memory.write_obj(1u8, GuestAddress(40 * 4096)).unwrap();
        let pagemap = Pagemap::open().unwrap();
        let resident = pagemap.find(&memory, Which::Resident).unwrap();
        assert_eq!(resident, [(20 * 4096, 4096), (40 * 4096, 4096)]);
        drop(recording);
    }
}
