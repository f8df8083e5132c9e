//! The unsafe leaf that gives the kernel's random generator bits from the host (random(4), `RNDADDENTROPY`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Most bytes given at once.
pub const MAX_LEN: usize = 512;

/// `_IOW('R', 0x03, int[2])` of linux/random.h.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;

/// `struct rand_pool_info` of linux/random.h with room for the bytes.
#[repr(C)]
struct RandPoolInfo {
    entropy_count: libc::c_int,
    buf_size: libc::c_int,
    buf: [u8; MAX_LEN],
}

/// Why the randomness is refused.
#[derive(Debug, thiserror::Error)]
pub enum EntropyError {
    /// More than 512 bytes of randomness were given.
    #[error("More than {MAX_LEN} bytes of randomness were given.")]
    TooLong,
    /// The kernel's random generator refuses them.
    #[error("The kernel's random generator refuses them: {0}.")]
    Kernel(#[source] io::Error),
}

/// Mixes `bytes` into the generator and counts all their bits as random.
pub fn credit(bytes: &[u8]) -> Result<(), EntropyError> {
    let mut info = RandPoolInfo {
        entropy_count: 0,
        buf_size: 0,
        buf: [0; MAX_LEN],
    };
    info.buf
        .get_mut(..bytes.len())
        .ok_or(EntropyError::TooLong)?
        .copy_from_slice(bytes);
    let length = libc::c_int::try_from(bytes.len()).map_err(|_| EntropyError::TooLong)?;
    info.buf_size = length;
    info.entropy_count = length.saturating_mul(8);
    let device = File::options()
        .write(true)
        .open("/dev/random")
        .map_err(EntropyError::Kernel)?;
    // SAFETY: the kernel reads two ints and `buf_size` bytes after them; `buf_size` is at most the length of `buf`,
    // which lies directly behind them (repr(C)).
    let result = unsafe { libc::ioctl(device.as_raw_fd(), RNDADDENTROPY, &raw const info) };
    if result == 0 {
        Ok(())
    } else {
        Err(EntropyError::Kernel(io::Error::last_os_error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_refused() {
        assert!(matches!(
            credit(&[0; MAX_LEN + 1]),
            Err(EntropyError::TooLong)
        ));
    }

    #[test]
    fn the_kernel_takes_it() {
        match credit(b"some bytes of no real randomness") {
            Ok(()) => {}
            // Needs CAP_SYS_ADMIN; the request itself was understood.
            Err(EntropyError::Kernel(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
