//! Files: sparse copies, and what they take.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::SeekFrom as Holes;

/// Copies `from` to the new file `to`; holes stay holes. The access bits are copied.
///
/// # Errors
/// When one can't be read, made or written.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> std::io::Result<()> {
        let mut source = File::open(from)?;
        let mut target = File::create_new(to)?;
        target.set_permissions(source.metadata()?.permissions())?;
        target.set_len(source.metadata()?.len())?;
        let mut at = 0;
        loop {
            let data = match rustix::fs::seek(&source, Holes::Data(at)) {
                Ok(data) => data,
                // No data from here on.
                Err(rustix::io::Errno::NXIO) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            at = rustix::fs::seek(&source, Holes::Hole(data))?;
            source.seek(SeekFrom::Start(data))?;
            target.seek(SeekFrom::Start(data))?;
            std::io::copy(&mut (&source).take(at - data), &mut target)?;
        }
    };
    copy().with_context(|| format!("could not copy {} to {}", from.display(), to.display()))
}

/// Bytes that a file, or all files right below a folder, take of the file system. What has several names is left out: it
/// belongs to an earlier snapshot.
///
/// # Errors
/// When something can't be looked at.
pub fn taken(path: &Path) -> Result<u64> {
    let meta = fs::metadata(path).with_context(|| format!("there is no {}", path.display()))?;
    if meta.is_file() {
        return Ok(if meta.nlink() == 1 {
            meta.blocks() * 512
        } else {
            0
        });
    }
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.is_file() {
            sum += taken(&entry)?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_copy_is_equal_and_as_sparse() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let mut file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        for (at, byte) in [(0_u64, 1_u8), (9 << 20, 2), ((64 << 20) - 5000, 3)] {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[byte; 5000]).unwrap();
        }
        copy_sparse(&from, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert_eq!(taken(&from).unwrap(), taken(&to).unwrap());
        assert!(taken(&to).unwrap() < 1 << 20);
        assert!(copy_sparse(&from, &to).is_err(), "nothing is overwritten");
        fs::hard_link(&from, dir.path().join("c")).unwrap();
        assert_eq!(taken(dir.path()).unwrap(), taken(&to).unwrap());
    }
}
