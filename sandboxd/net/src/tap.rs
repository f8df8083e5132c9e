//! Creating TAP interfaces.
//!
//! A TAP is made without being persistent, so that a crash half-way leaves nothing; [`Fresh::keep`]
//! makes it persistent once it is known by its alias. The VMM opens it later by its name.
//!
//! A leaf module: unsafe is two ioctls (Documentation/networking/tuntap.rst).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;

/// A TAP that goes with this value unless it is kept.
#[derive(Debug)]
pub struct Fresh(File);

/// Creates a TAP with virtio-net headers under exactly this name.
///
/// # Errors
/// `EBUSY` when an interface of that name exists, `EPERM` without `CAP_NET_ADMIN`, `ENOENT` without
/// the tun driver, `EINVAL` for a name the kernel does not take.
pub fn create(name: &str) -> io::Result<Fresh> {
    open(name, libc::IFF_TUN_EXCL).map(Fresh)
}

fn open(name: &str, extra: libc::c_int) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero and ends the name.
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | extra;
    let [low, high, ..] = flags.to_le_bytes();
    request.ifr_ifru.ifru_flags = i16::from_le_bytes([low, high]);
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is, on a tun descriptor.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// Opens an existing TAP as a VMM does, with checksum offload towards the guest.
///
/// As a VMM, it asks again while the TAP is busy: a process that another test was starting when its maker closed it holds a
/// copy of the descriptor until its exec (open(2), `O_CLOEXEC`).
#[cfg(test)]
pub fn attach(name: &str) -> io::Result<File> {
    let began = std::time::Instant::now();
    let file = loop {
        match open(name, 0) {
            Err(why)
                if why.kind() == io::ErrorKind::ResourceBusy && began.elapsed().as_secs() < 1 =>
            {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            ended => break ended?,
        }
    };
    // SAFETY: TUNSETOFFLOAD takes an integer, no pointer, on a tun descriptor.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, 1_usize) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

impl Fresh {
    /// Makes the interface outlive this process, until it is deleted.
    ///
    /// # Errors
    /// The kernel's refusal; the interface then goes with this value.
    pub fn keep(self) -> io::Result<()> {
        // SAFETY: TUNSETPERSIST takes an integer, no pointer, on a tun descriptor.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETPERSIST, 1_usize) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_too_long_is_refused_before_the_kernel_cuts_it() {
        match create("a-name-of-16-byt") {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}"),
            Ok(_) => panic!("created"),
        }
    }
}
