//! The raw system calls of the doctor: one bpf(2) wrapper and one TAP ioctl.
//!
//! A leaf module: unsafe stays here, and every function creates something only to let go of it.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;

/// `r0 = 0; exit` as two 8-byte instructions (Documentation/bpf/standardization/instruction-set.rst).
const RETURN_ZERO: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The head of `union bpf_attr` for `BPF_MAP_CREATE`, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Loads a traffic-control program of two instructions and lets it go.
///
/// # Errors
/// The kernel's refusal: `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN`, `ENOSYS` without bpf(2).
pub fn load_trivial_program() -> io::Result<()> {
    let attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: 2,
        insns: RETURN_ZERO.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    // SAFETY: `attr` is a prefix of union bpf_attr of the size passed; the instructions and the
    // licence it points to are constants that outlive the call.
    unsafe { bpf(BPF_PROG_LOAD, &attr) }.map(drop)
}

/// Creates a one-page ring buffer map and lets it go.
///
/// # Errors
/// `EINVAL` on kernels before 5.8, which have no ring buffer; else as for programs.
pub fn create_ring_buffer() -> io::Result<()> {
    let attr = MapCreate {
        map_type: BPF_MAP_TYPE_RINGBUF,
        max_entries: u32::try_from(rustix::param::page_size()).unwrap_or(4096),
        ..MapCreate::default()
    };
    // SAFETY: `attr` is a prefix of union bpf_attr of the size passed and holds no pointer.
    unsafe { bpf(BPF_MAP_CREATE, &attr) }.map(drop)
}

/// # Safety
/// `attr` must be a valid prefix of `union bpf_attr` for `command`, a command that returns a new
/// file descriptor.
unsafe fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads size_of::<T>() bytes of a live reference.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<T>(),
        )
    };
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a non-negative result of these commands is a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Creates a TAP interface with virtio-net headers and returns the name the kernel gave it; the
/// interface is gone when this returns.
///
/// # Errors
/// `ENOENT` without the tun driver, `EPERM` without `CAP_NET_ADMIN`.
pub fn create_tap() -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"sbxdoc%d\0") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags =
        i16::try_from(flags).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is, on a tun descriptor.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(request
        .ifr_name
        .iter()
        .map(|c| u8::from_ne_bytes(c.to_ne_bytes()))
        .take_while(|byte| *byte != 0)
        .map(char::from)
        .collect())
}
