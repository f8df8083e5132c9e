//! Room for a report, set aside before it is needed: a disk that fills up while samples are written still takes the report.
//!
//! ```text
//!   free  ≥ 8 MiB ─► 4 MiB        less ─► half of it        too little for any report ─► the run does not begin
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// How much is set aside, in bytes: a report of a few dozen series with their files.
const SIZE: u64 = 4 << 20;
/// The least that a report of a few series fits into.
const LEAST: u64 = 64 << 10;
const NAME: &str = ".room-for-the-report";

/// The room. Dropped, it is given back.
#[derive(Debug)]
pub struct Room(PathBuf);

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// Too little is free.
    #[error("the disk is full: {} has {} KiB left, and a report takes {} or more", path.display(), free >> 10, (2 * LEAST) >> 10)]
    Full {
        /// Where.
        path: PathBuf,
        /// Bytes that are free there.
        free: u64,
    },
}

impl Room {
    /// Sets it aside in a folder, where the file system can; where it cannot there is none, and nothing else changes.
    ///
    /// # Errors
    /// When too little is free for any report.
    pub fn set_aside(folder: &Path) -> Result<Option<Self>, RoomError> {
        let Ok(system) = statvfs(folder) else {
            return Ok(None);
        };
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let full = || RoomError::Full {
            path: folder.to_owned(),
            free,
        };
        // File systems that count no blocks say that none is free.
        let size = match size(free) {
            Some(size) => size,
            None if system.f_blocks == 0 => SIZE,
            None => return Err(full()),
        };
        let room = Self(folder.join(NAME));
        let Ok(file) = File::create(&room.0) else {
            return Ok(None);
        };
        match fallocate(&file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(Some(room)),
            // A quota is not in what is free.
            Err(Errno::NOSPC | Errno::DQUOT) => Err(full()),
            Err(_) => Ok(None),
        }
    }
}

/// How much to set aside of what is free: never more than half, or there would be none for samples.
fn size(free: u64) -> Option<u64> {
    let size = SIZE.min(free / 2);
    (size >= LEAST).then_some(size)
}

impl Drop for Room {
    fn drop(&mut self) {
        // A file that is not there takes no room.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn room_is_taken_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let room = Room::set_aside(folder.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), SIZE);
        drop(room);
        assert!(!path.exists());
        let nowhere = Room::set_aside(Path::new("/proc/nowhere"));
        assert!(nowhere.unwrap().is_none());
        // A file system without blocks and without files to make is no full disk.
        assert!(Room::set_aside(Path::new("/proc")).unwrap().is_none());
    }

    #[test]
    fn a_full_disk_is_a_sentence() {
        let error = RoomError::Full {
            path: "results".into(),
            free: 12 << 10,
        };
        let said = "the disk is full: results has 12 KiB left, and a report takes 128 or more";
        assert_eq!(error.to_string(), said);
    }

    proptest! {
        #[test]
        fn samples_are_left_at_least_as_much(free in 0u64..32 << 20) {
            match size(free) {
                Some(size) => prop_assert!((LEAST..=SIZE).contains(&size) && size <= free / 2),
                None => prop_assert!(free < 2 * LEAST),
            }
        }
    }
}
