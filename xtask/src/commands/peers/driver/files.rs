//! Files: sparse copies, and what they take.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::SeekFrom as Holes;

/// Where a file has data: first byte and length of each piece.
pub type Pieces = Vec<(u64, u64)>;

/// The pieces of a file. A file system that knows no holes has one piece.
///
/// # Errors
/// When the file can't be read.
pub fn pieces(path: &Path) -> Result<Pieces> {
    let find = || -> std::io::Result<Pieces> {
        let file = File::open(path)?;
        let mut pieces = Pieces::new();
        let mut at = 0;
        loop {
            let data = match rustix::fs::seek(&file, Holes::Data(at)) {
                Ok(data) => data,
                // No data from here on.
                Err(rustix::io::Errno::NXIO) => return Ok(pieces),
                Err(error) => return Err(error.into()),
            };
            at = rustix::fs::seek(&file, Holes::Hole(data))?;
            pieces.push((data, at - data));
        }
    };
    find().with_context(|| format!("could not read {}", path.display()))
}

/// Copies `from` to the new file `to`; holes stay holes. The access bits are copied.
///
/// # Errors
/// When one can't be read, made or written.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    copy_pieces(from, to, &pieces(from)?)
}

/// As [`copy_sparse`], when the pieces are known and `from` lies where they can't be found: 9p tells no holes.
///
/// # Errors
/// When one can't be read, made or written.
pub fn copy_pieces(from: &Path, to: &Path, pieces: &[(u64, u64)]) -> Result<()> {
    let copy = || -> std::io::Result<()> {
        let mut source = File::open(from)?;
        let mut target = File::create_new(to)?;
        target.set_permissions(source.metadata()?.permissions())?;
        target.set_len(source.metadata()?.len())?;
        for &(at, len) in pieces {
            source.seek(SeekFrom::Start(at))?;
            target.seek(SeekFrom::Start(at))?;
            std::io::copy(&mut (&source).take(len), &mut target)?;
        }
        Ok(())
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
