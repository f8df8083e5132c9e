//! Room for a report, set aside before it is needed: a disk that fills up while samples are written still takes the report.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// How much is set aside, in bytes: a report of a few dozen series with their files.
const SIZE: u64 = 4 << 20;
const NAME: &str = ".room-for-the-report";

/// The room. Dropped, it is given back.
#[derive(Debug)]
pub struct Room(PathBuf);

impl Room {
    /// Sets it aside in a folder, where the file system can; where it cannot there is none, and nothing else changes.
    #[must_use]
    pub fn set_aside(folder: &Path) -> Option<Self> {
        let room = Self(folder.join(NAME));
        let file = File::create(&room.0).ok()?;
        fallocate(&file, FallocateFlags::empty(), 0, SIZE).ok()?;
        Some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // A file that is not there takes no room.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let room = Room::set_aside(folder.path());
        assert_eq!(fs::metadata(&path).unwrap().len(), SIZE);
        drop(room);
        assert!(!path.exists());
        assert!(Room::set_aside(Path::new("/proc/nowhere")).is_none());
    }
}
