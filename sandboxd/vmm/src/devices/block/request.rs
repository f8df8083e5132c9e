//! What a request asks for, decided from its header and its lengths alone (Virtio 1.2, 5.2.6).
//!
//! ```text
//!   readable: [type u32 | reserved u32 | sector u64] [data …]      writable: [data …] [status u8]
//! ```
//!
//! A driver may split the parts over descriptors as it likes; only the byte streams count.

use super::{ERASE_RANGES_MAX, ERASE_SECTORS_MAX, SECTOR};

/// Bytes of the request header.
pub const HEADER: u32 = 16;
/// Bytes of one range of a discard or write-zeroes request.
pub const RANGE: u32 = 16;
/// Bytes of the answer to GET_ID.
pub const ID_BYTES: usize = 20;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;
/// The range may be given back to the host, not only zeroed.
const RANGE_UNMAP: u32 = 1;

/// How a request ended, as the driver reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// The request is wrong, or the host failed.
    IoError = 1,
    /// The disk does not do this.
    Unsupported = 2,
}

/// What the disk is.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Size in bytes, a multiple of [`SECTOR`].
    pub size: u64,
    /// Whether the driver may not write.
    pub read_only: bool,
}

/// A request that may be carried out; every range lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read `len` bytes from byte `at`.
    In {
        /// First byte on the disk.
        at: u64,
        /// Bytes.
        len: u32,
    },
    /// Write `len` bytes to byte `at`.
    Out {
        /// First byte on the disk.
        at: u64,
        /// Bytes.
        len: u32,
    },
    /// Bring everything to the host's disk.
    Flush,
    /// Tell the name.
    GetId,
    /// Forget `ranges` ranges; each is still to be decided on.
    Discard {
        /// Ranges in the data.
        ranges: u32,
    },
    /// Zero `ranges` ranges; each is still to be decided on.
    WriteZeroes {
        /// Ranges in the data.
        ranges: u32,
    },
}

/// Decides on a request with `readable` bytes (header included) and `writable` bytes (status included, so at least 1).
///
/// # Errors
/// The status for the driver.
pub fn decide(
    header: &[u8; HEADER as usize],
    readable: u32,
    writable: u32,
    disk: Geometry,
) -> Result<Operation, Status> {
    let (kind, rest) = header.split_at(4);
    let kind = u32::from_le_bytes(kind.try_into().unwrap_or_default());
    let sector = u64::from_le_bytes(rest[4..].try_into().unwrap_or_default());
    let data_out = readable.saturating_sub(HEADER);
    let data_in = writable.saturating_sub(1);
    match kind {
        T_IN => {
            let at = range(sector, u64::from(data_in), disk)?;
            Ok(Operation::In { at, len: data_in })
        }
        T_OUT if disk.read_only => Err(Status::IoError),
        T_OUT => {
            let at = range(sector, u64::from(data_out), disk)?;
            Ok(Operation::Out { at, len: data_out })
        }
        T_FLUSH => Ok(Operation::Flush),
        T_GET_ID => Ok(Operation::GetId),
        T_DISCARD | T_WRITE_ZEROES if disk.read_only => Err(Status::Unsupported),
        T_DISCARD => Ok(Operation::Discard {
            ranges: ranges(data_out)?,
        }),
        T_WRITE_ZEROES => Ok(Operation::WriteZeroes {
            ranges: ranges(data_out)?,
        }),
        _ => Err(Status::Unsupported),
    }
}

/// Decides on one range of a discard (`zeroes` false) or write-zeroes request: its first byte and its length in bytes.
///
/// # Errors
/// The status for the driver.
pub fn decide_range(
    raw: &[u8; RANGE as usize],
    zeroes: bool,
    disk: Geometry,
) -> Result<(u64, u64), Status> {
    let (sector, rest) = raw.split_at(8);
    let (sectors, flags) = rest.split_at(4);
    let sector = u64::from_le_bytes(sector.try_into().unwrap_or_default());
    let sectors = u32::from_le_bytes(sectors.try_into().unwrap_or_default());
    let flags = u32::from_le_bytes(flags.try_into().unwrap_or_default());
    let known = if zeroes { RANGE_UNMAP } else { 0 };
    if flags & !known != 0 {
        return Err(Status::Unsupported);
    }
    if sectors > ERASE_SECTORS_MAX {
        return Err(Status::IoError);
    }
    let len = u64::from(sectors) * SECTOR;
    Ok((range(sector, len, disk)?, len))
}

fn range(sector: u64, len: u64, disk: Geometry) -> Result<u64, Status> {
    let at = sector.checked_mul(SECTOR).ok_or(Status::IoError)?;
    let end = at.checked_add(len).ok_or(Status::IoError)?;
    if len.is_multiple_of(SECTOR) && end <= disk.size {
        Ok(at)
    } else {
        Err(Status::IoError)
    }
}

fn ranges(data: u32) -> Result<u32, Status> {
    let count = data / RANGE;
    let good = data.is_multiple_of(RANGE) && (1..=ERASE_RANGES_MAX).contains(&count);
    if good {
        Ok(count)
    } else {
        Err(Status::IoError)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DISK: Geometry = Geometry {
        size: 1 << 20,
        read_only: false,
    };
    const READ_ONLY: Geometry = Geometry {
        read_only: true,
        ..DISK
    };

    fn header(kind: u32, sector: u64) -> [u8; 16] {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        header
    }

    fn erase(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&sector.to_le_bytes());
        raw[8..12].copy_from_slice(&sectors.to_le_bytes());
        raw[12..].copy_from_slice(&flags.to_le_bytes());
        raw
    }

    #[test]
    fn reads_and_writes_reach_the_last_sector_and_no_further() {
        let last = DISK.size / SECTOR - 1;
        let read = decide(&header(T_IN, last), 16, 513, DISK);
        assert_eq!(
            read,
            Ok(Operation::In {
                at: last * SECTOR,
                len: 512
            })
        );
        let write = decide(&header(T_OUT, last), 16 + 512, 1, DISK);
        assert_eq!(
            write,
            Ok(Operation::Out {
                at: last * SECTOR,
                len: 512
            })
        );
        for (sector, len) in [
            (last, 1024),
            (last + 1, 512),
            (u64::MAX, 512),
            (u64::MAX / 512, 512),
        ] {
            assert_eq!(
                decide(&header(T_IN, sector), 16, len + 1, DISK),
                Err(Status::IoError)
            );
            assert_eq!(
                decide(&header(T_OUT, sector), 16 + len, 1, DISK),
                Err(Status::IoError)
            );
        }
    }

    #[test]
    fn half_sectors_are_refused() {
        assert_eq!(
            decide(&header(T_IN, 0), 16, 512, DISK),
            Err(Status::IoError)
        );
        assert_eq!(
            decide(&header(T_OUT, 0), 16 + 513, 1, DISK),
            Err(Status::IoError)
        );
    }

    #[test]
    fn a_read_only_disk_takes_no_writes() {
        assert_eq!(
            decide(&header(T_OUT, 0), 16 + 512, 1, READ_ONLY),
            Err(Status::IoError)
        );
        assert_eq!(
            decide(&header(T_DISCARD, 0), 32, 1, READ_ONLY),
            Err(Status::Unsupported)
        );
        assert_eq!(
            decide(&header(T_WRITE_ZEROES, 0), 32, 1, READ_ONLY),
            Err(Status::Unsupported)
        );
        assert!(decide(&header(T_IN, 0), 16, 513, READ_ONLY).is_ok());
    }

    #[test]
    fn unknown_types_are_unsupported() {
        for kind in [2, 3, 5, 10, 12, 14, u32::MAX] {
            assert_eq!(
                decide(&header(kind, 0), 16, 1, DISK),
                Err(Status::Unsupported)
            );
        }
    }

    #[test]
    fn erase_requests_hold_one_to_sixteen_ranges() {
        let at = |bytes: u32| decide(&header(T_DISCARD, 0), 16 + bytes, 1, DISK);
        assert_eq!(at(16), Ok(Operation::Discard { ranges: 1 }));
        assert_eq!(at(256), Ok(Operation::Discard { ranges: 16 }));
        for bytes in [0, 15, 17, 272] {
            assert_eq!(at(bytes), Err(Status::IoError));
        }
    }

    #[test]
    fn erase_ranges_are_checked() {
        assert_eq!(decide_range(&erase(1, 2, 0), false, DISK), Ok((512, 1024)));
        assert_eq!(decide_range(&erase(1, 2, 1), true, DISK), Ok((512, 1024)));
        assert_eq!(
            decide_range(&erase(1, 2, 1), false, DISK),
            Err(Status::Unsupported)
        );
        assert_eq!(
            decide_range(&erase(1, 2, 2), true, DISK),
            Err(Status::Unsupported)
        );
        assert_eq!(
            decide_range(&erase(2047, 2, 0), true, DISK),
            Err(Status::IoError)
        );
        let big = Geometry {
            size: u64::MAX / SECTOR * SECTOR,
            read_only: false,
        };
        let most = ERASE_SECTORS_MAX;
        assert!(decide_range(&erase(0, most, 0), true, big).is_ok());
        assert_eq!(
            decide_range(&erase(0, most + 1, 0), true, big),
            Err(Status::IoError)
        );
    }

    proptest! {
        #[test]
        fn what_is_allowed_lies_on_the_disk(
            header: [u8; 16], kind in 0..16u32, small in 0..4096u64, wild: bool,
            readable in 16..REQUEST, writable in 1..REQUEST, read_only: bool,
        ) {
            let mut header = header;
            header[..4].copy_from_slice(&kind.to_le_bytes());
            if !wild {
                header[8..].copy_from_slice(&small.to_le_bytes());
            }
            let disk = Geometry { read_only, ..DISK };
            match decide(&header, readable, writable, disk) {
                Ok(Operation::In { at, len }) => {
                    prop_assert!(at + u64::from(len) <= disk.size && len < writable);
                }
                Ok(Operation::Out { at, len }) => {
                    prop_assert!(!read_only && at + u64::from(len) <= disk.size && len < readable);
                }
                Ok(Operation::Discard { ranges } | Operation::WriteZeroes { ranges }) => {
                    prop_assert!(!read_only && ranges * RANGE <= readable - HEADER);
                }
                Ok(Operation::Flush | Operation::GetId) | Err(_) => {}
            }
            if let Ok((at, len)) = decide_range(&header, wild, disk) {
                prop_assert!(at + len <= disk.size);
            }
        }
    }

    const REQUEST: u32 = 9 << 20;
}
