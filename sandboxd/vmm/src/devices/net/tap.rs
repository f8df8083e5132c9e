//! A TAP interface as a file of frames (Linux, Documentation/networking/tuntap.rst). The only `unsafe` here are the ioctls
//! that attach to it.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::NetError;
use super::frame::HEADER;

/// How long an interface may be busy: far longer than an exec takes, far shorter than a client waits.
const BUSY_LIMIT: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

const TUN_F_CSUM: u32 = 1;
const TUN_F_TSO4: u32 = 2;
const TUN_F_TSO6: u32 = 4;

/// What the guest takes off the host's hands when it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// It takes frames whose checksum is still to be made.
    pub checksum: bool,
    /// It takes TCP over IPv4 in pieces larger than a frame.
    pub tso4: bool,
    /// It takes TCP over IPv6 in pieces larger than a frame.
    pub tso6: bool,
}

/// A non-blocking file where each read and write is one frame behind a `virtio_net_hdr_v1`.
pub trait FrameIo: AsFd + Send {
    /// Tells the other side what it may leave undone.
    ///
    /// # Errors
    /// What the host says.
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()>;
    /// Most bytes of a packet inside a frame.
    fn mtu(&self) -> u16;
}

/// An attached TAP interface.
#[derive(Debug)]
pub struct Tap {
    file: File,
    mtu: u16,
}

impl Tap {
    /// Attaches to the existing interface `name`.
    ///
    /// # Errors
    /// When there is none, or it is in use or no TAP.
    pub fn open(name: &str) -> Result<Self, NetError> {
        let failed = |source| NetError::Tap {
            tap: name.to_owned(),
            source,
        };
        let mut request = request(name).map_err(failed)?;
        let mtu = match mtu(&mut request) {
            Ok(mtu) => mtu,
            Err(why) if why.raw_os_error() == Some(libc::ENODEV) => {
                return Err(NetError::Missing(name.to_owned()));
            }
            Err(why) => return Err(failed(why)),
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(failed)?;
        while_busy(|| attach(&file, &mut request)).map_err(failed)?;
        Ok(Self { file, mtu })
    }
}

/// Tries again for a while as long as it is busy.
///
/// Whoever made the interface has closed it before its name was given away, but a process that was being started meanwhile
/// holds a copy of the descriptor until its exec (fork(2), "close-on-exec" in open(2)).
fn while_busy(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(why)
                if why.kind() == io::ErrorKind::ResourceBusy && began.elapsed() < BUSY_LIMIT =>
            {
                std::thread::sleep(BUSY_PAUSE);
            }
            ended => return ended,
        }
    }
}

impl FrameIo for Tap {
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        let Offloads {
            checksum,
            tso4,
            tso6,
        } = offloads;
        // Without checksums there can be no segmentation.
        let flags = [
            (checksum, TUN_F_CSUM),
            (checksum && tso4, TUN_F_TSO4),
            (checksum && tso6, TUN_F_TSO6),
        ]
        .into_iter()
        .filter_map(|(wanted, flag)| wanted.then_some(flag))
        .sum::<u32>();
        // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
        check(unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(flags),
            )
        })
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain old data, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte must stay zero behind the name.
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

fn mtu(request: &mut libc::ifreq) -> io::Result<u16> {
    let any = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: SIOCGIFMTU reads the name in and writes the MTU to the ifreq, which is borrowed for the call.
    check(unsafe {
        libc::ioctl(
            any.as_raw_fd(),
            libc::SIOCGIFMTU,
            std::ptr::from_mut(request),
        )
    })?;
    // SAFETY: the call has just filled in this member of the union, and any bytes are a valid integer.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    // An interface of 64 KiB or more is told as the most that a packet can have.
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}

fn attach(file: &File, request: &mut libc::ifreq) -> io::Result<()> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or_default();
    // SAFETY: TUNSETIFF reads and writes the ifreq, which is borrowed for the call.
    check(unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            libc::TUNSETIFF,
            std::ptr::from_mut(request),
        )
    })?;
    let header = libc::c_int::try_from(HEADER).unwrap_or_default();
    // SAFETY: TUNSETVNETHDRSZ reads one int, which lives through the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const header) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_does_not_exist_is_refused_and_not_made() {
        let name = "sbx-none-here";
        assert!(matches!(Tap::open(name), Err(NetError::Missing(_))));
        assert!(matches!(Tap::open(name), Err(NetError::Missing(_))));
    }

    #[test]
    fn an_interface_that_is_soon_free_is_waited_for_and_other_refusals_are_not() {
        let mut answers = vec![Ok(()), busy(), busy()];
        while_busy(|| answers.pop().unwrap()).unwrap();
        assert!(answers.is_empty());
        let mut asked = 0;
        let refused = while_busy(|| {
            asked += 1;
            Err(io::ErrorKind::PermissionDenied.into())
        });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(asked, 1);
        let stays = while_busy(busy).unwrap_err();
        assert_eq!(stays.kind(), io::ErrorKind::ResourceBusy);
    }

    fn busy() -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    #[test]
    fn a_name_that_is_no_name_is_refused() {
        for name in ["", "sixteen-bytes-xx"] {
            assert!(
                matches!(Tap::open(name), Err(NetError::Tap { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn an_interface_that_is_no_tap_is_refused() {
        let refused = Tap::open("lo").unwrap_err().to_string();
        assert!(
            refused.starts_with("the TAP interface lo cannot be used: "),
            "{refused}"
        );
    }
}
