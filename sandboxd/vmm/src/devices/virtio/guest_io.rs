//! File and socket I/O straight into and out of guest memory, without a bounce buffer.
//!
//! This is the one module of the devices with `unsafe` code: it turns checked segments into `iovec`s and hands them to
//! the kernel. Guest memory may change under the kernel's hands at any time; that is as harmless as another thread of
//! the guest writing to it, because no Rust reference to it is ever made.
//!
//! ```text
//!   Segments[offset .. offset + len] ──► iovec[≤ 1024] ──► preadv / pwritev  (exact: loop until all is done)
//!                                                     └──► recvmsg / sendmsg / writev  (once: what is possible now)
//! ```

#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_void, iovec};
use vm_memory::bitmap::Bitmap;

use super::GuestMemory;
use super::chain::{GuestSlice, Segments};

/// Most `iovec`s in one call (UIO_MAXIOV).
const MAX_IOVECS: usize = 1024;

/// The host addresses of a range of segments, valid as long as guest memory is borrowed.
struct IoVecs<'m> {
    slices: Vec<GuestSlice<'m>>,
    vecs: Vec<iovec>,
}

impl<'m> IoVecs<'m> {
    fn new(
        memory: &'m GuestMemory,
        segments: &Segments,
        offset: u32,
        len: u32,
    ) -> io::Result<Self> {
        let mut slices = Vec::with_capacity(segments.count() + 1);
        for slice in segments.slices(memory, offset, len).take(MAX_IOVECS) {
            slices.push(slice.map_err(|_| io::Error::from(ErrorKind::InvalidInput))?);
        }
        let vecs = slices
            .iter()
            .map(|slice| iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast::<c_void>(),
                iov_len: slice.len(),
            })
            .collect();
        Ok(Self { slices, vecs })
    }

    fn count(&self) -> c_int {
        // At most MAX_IOVECS.
        c_int::try_from(self.vecs.len()).unwrap_or(c_int::MAX)
    }

    /// Tells the dirty-page log that the kernel wrote the first `written` bytes.
    fn mark_written(&self, mut written: usize) {
        for slice in &self.slices {
            let part = written.min(slice.len());
            slice.bitmap().mark_dirty(0, part);
            written -= part;
        }
    }
}

/// Reads exactly `len` bytes from position `at` of `file` into the segments, from their byte `offset` on.
///
/// # Errors
/// What preadv(2) says; `UnexpectedEof` when the file ends earlier.
pub fn read_exact_at(
    file: impl AsFd,
    memory: &GuestMemory,
    segments: &Segments,
    offset: u32,
    len: u32,
    at: u64,
) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let vecs = IoVecs::new(memory, segments, offset + done, len - done)?;
        let position = position(at, done)?;
        // SAFETY: every iovec points to mapped guest memory that `vecs` borrows for the length of the call, and the
        // kernel writes only inside them.
        let got = check(unsafe {
            libc::preadv(
                file.as_fd().as_raw_fd(),
                vecs.vecs.as_ptr(),
                vecs.count(),
                position,
            )
        });
        done += match got {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                vecs.mark_written(got);
                u32::try_from(got).unwrap_or(u32::MAX)
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => 0,
            Err(why) => return Err(why),
        };
    }
    Ok(())
}

/// Writes exactly `len` bytes of the segments, from their byte `offset` on, to position `at` of `file`.
///
/// # Errors
/// What pwritev(2) says; `WriteZero` when the file takes nothing.
pub fn write_all_at(
    file: impl AsFd,
    memory: &GuestMemory,
    segments: &Segments,
    offset: u32,
    len: u32,
    at: u64,
) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let vecs = IoVecs::new(memory, segments, offset + done, len - done)?;
        let position = position(at, done)?;
        // SAFETY: every iovec points to mapped guest memory that `vecs` borrows for the length of the call, and the
        // kernel only reads them.
        let put = check(unsafe {
            libc::pwritev(
                file.as_fd().as_raw_fd(),
                vecs.vecs.as_ptr(),
                vecs.count(),
                position,
            )
        });
        done += match put {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(put) => u32::try_from(put).unwrap_or(u32::MAX),
            Err(why) if why.kind() == ErrorKind::Interrupted => 0,
            Err(why) => return Err(why),
        };
    }
    Ok(())
}

/// Receives what `socket` has now, at most `len` bytes, into the segments from their byte `offset` on. Zero means that
/// the peer will send nothing more.
///
/// # Errors
/// What recvmsg(2) says; `WouldBlock` when there is nothing yet.
pub fn receive(
    socket: impl AsFd,
    memory: &GuestMemory,
    segments: &Segments,
    offset: u32,
    len: u32,
) -> io::Result<usize> {
    let mut vecs = IoVecs::new(memory, segments, offset, len)?;
    let mut message = message(&mut vecs.vecs);
    // SAFETY: `message` and its iovecs live through the call; the iovecs point to mapped guest memory that `vecs`
    // borrows, and the kernel writes only inside them.
    let got = check(unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut message,
            libc::MSG_DONTWAIT,
        )
    })?;
    vecs.mark_written(got);
    Ok(got)
}

/// Sends what `socket` takes now of `len` bytes of the segments, from their byte `offset` on.
///
/// # Errors
/// What sendmsg(2) says; `WouldBlock` when the socket is full. Never raises SIGPIPE.
pub fn send(
    socket: impl AsFd,
    memory: &GuestMemory,
    segments: &Segments,
    offset: u32,
    len: u32,
) -> io::Result<usize> {
    let mut vecs = IoVecs::new(memory, segments, offset, len)?;
    let message = message(&mut vecs.vecs);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `message` and its iovecs live through the call; the iovecs point to mapped guest memory that `vecs`
    // borrows, and the kernel only reads them.
    check(unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags) })
}

/// Writes one frame: `head` from host memory, then the segments from their byte `offset` to their end. What was checked
/// in `head` is what is sent, however the guest changes its own copy meanwhile.
///
/// # Errors
/// What writev(2) says.
pub fn write_frame(
    file: impl AsFd,
    head: &[u8],
    memory: &GuestMemory,
    segments: &Segments,
    offset: u32,
) -> io::Result<usize> {
    let rest = segments.len().saturating_sub(offset);
    let mut vecs = IoVecs::new(memory, segments, offset, rest)?;
    let head = iovec {
        iov_base: head.as_ptr().cast_mut().cast::<c_void>(),
        iov_len: head.len(),
    };
    vecs.vecs.insert(0, head);
    // SAFETY: the first iovec points to `head`, borrowed for the call, the others to mapped guest memory that `vecs`
    // borrows; the kernel only reads them.
    check(unsafe { libc::writev(file.as_fd().as_raw_fd(), vecs.vecs.as_ptr(), vecs.count()) })
}

fn message(vecs: &mut [iovec]) -> libc::msghdr {
    // SAFETY: msghdr is plain old data, for which all zeroes means no address, no buffers and no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vecs.as_mut_ptr();
    message.msg_iovlen = vecs.len();
    message
}

fn position(at: u64, done: u32) -> io::Result<libc::off_t> {
    at.checked_add(u64::from(done))
        .and_then(|sum| libc::off_t::try_from(sum).ok())
        .ok_or_else(|| ErrorKind::InvalidInput.into())
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
