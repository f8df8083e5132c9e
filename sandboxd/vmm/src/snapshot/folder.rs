//! The folder while it is written: under a temporary name beside its own, removed again unless it is committed.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::SnapshotError;

/// A folder that is not yet there for others.
#[derive(Debug)]
pub struct Folder {
    temporary: PathBuf,
    target: PathBuf,
    sync: bool,
    committed: bool,
}

impl Folder {
    /// Begins a folder that will be `target`. With `sync` everything is on the host's disk before it appears.
    ///
    /// # Errors
    /// When `target` exists, or its parent cannot be written.
    pub fn create(target: &Path, sync: bool) -> Result<Self, SnapshotError> {
        let bad = || io::Error::from(ErrorKind::InvalidInput);
        let name = target
            .file_name()
            .ok_or_else(bad)
            .map_err(SnapshotError::file(target))?;
        if std::fs::symlink_metadata(target).is_ok() {
            return Err(SnapshotError::Exists(target.to_owned()));
        }
        let mut hidden = name.to_owned();
        hidden.push(format!(".tmp-{}", std::process::id()));
        let temporary = target.with_file_name(hidden);
        // What is left there is ours: the name holds our process id, and the process that had it before is gone.
        match std::fs::remove_dir_all(&temporary) {
            Err(why) if why.kind() != ErrorKind::NotFound => {
                return Err(SnapshotError::file(&temporary)(why));
            }
            _ => {}
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&temporary)
            .map_err(SnapshotError::file(&temporary))?;
        // The process's umask leaves folders without the right to enter them.
        std::fs::set_permissions(&temporary, Permissions::from_mode(0o700))
            .map_err(SnapshotError::file(&temporary))?;
        Ok(Self {
            temporary,
            target: target.to_owned(),
            sync,
            committed: false,
        })
    }

    /// Path of `name` while the folder is written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.temporary.join(name)
    }

    /// Path of `name` once the folder is committed.
    pub fn final_path(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// Makes an empty file.
    ///
    /// # Errors
    /// When the host fails.
    pub fn file(&self, name: &str) -> Result<File, SnapshotError> {
        let path = self.path(name);
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path)
            .map_err(SnapshotError::file(&path))
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// When the host fails.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SnapshotError> {
        let mut file = self.file(name)?;
        let written = file.write_all(bytes).and_then(|()| self.finish(&file));
        written.map_err(SnapshotError::file(&self.path(name)))
    }

    /// Brings a file to the disk if the folder is to be.
    ///
    /// # Errors
    /// When the host fails.
    pub fn finish(&self, file: &File) -> io::Result<()> {
        match self.sync {
            true => file.sync_all(),
            false => Ok(()),
        }
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// When the host fails; the folder is removed then.
    pub fn commit(mut self) -> Result<(), SnapshotError> {
        let sync_folder = |path: &Path| {
            let synced = File::open(path).and_then(|folder| folder.sync_all());
            synced.map_err(SnapshotError::file(path))
        };
        if self.sync {
            sync_folder(&self.temporary)?;
        }
        // An empty folder at the target would be replaced by the rename; that is nobody's snapshot.
        std::fs::rename(&self.temporary, &self.target)
            .map_err(SnapshotError::file(&self.target))?;
        self.committed = true;
        if self.sync
            && let Some(parent) = self.target.parent()
        {
            let parent = match parent.as_os_str().is_empty() {
                true => Path::new("."),
                false => parent,
            };
            sync_folder(parent)?;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.committed {
            let _ = std::fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Makes `to` the same file as `from`, or where the file systems differ a sparse copy of it; true when it is the same.
///
/// # Errors
/// When the host fails.
pub fn link_or_copy(from: &Path, to: &Path) -> io::Result<bool> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == ErrorKind::CrossesDevices => {
            copy_sparse(&File::open(from)?, to)?;
            Ok(false)
        }
        Err(why) => Err(why),
    }
}

/// Makes `to` the same file as the open `file`, which was found at `from`, or a sparse copy of it. The folder that it was found
/// in may be deleted by now, or another may have its name.
///
/// # Errors
/// When the host fails.
pub fn keep(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    let linked = match std::fs::hard_link(from, to) {
        Ok(()) if is_same(file, to)? => return Ok(()),
        Ok(()) => {
            std::fs::remove_file(to)?;
            None
        }
        Err(why) => Some(why.kind()),
    };
    if linked != Some(ErrorKind::CrossesDevices) && link_open(file, to).is_ok() {
        return Ok(());
    }
    copy_sparse(file, to)
}

fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let (one, other) = (file.metadata()?, std::fs::symlink_metadata(path)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Another name for an open file that still has one somewhere; refused when it has none, or `/proc` is out of reach.
fn link_open(file: &File, to: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, AtFlags};
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    Ok(nix::unistd::linkat(
        AT_FDCWD,
        from.as_str(),
        AT_FDCWD,
        to,
        flags,
    )?)
}

fn copy_sparse(source: &File, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileExt;

    use nix::unistd::{Whence, lseek};
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let len = source.metadata()?.len();
    target.set_len(len)?;
    let mut buffer = vec![0; 1 << 20];
    let offset = |at: u64| libc::off_t::try_from(at).unwrap_or(libc::off_t::MAX);
    let mut at = 0;
    while at < len {
        let seek = |from, whence| lseek(source, offset(from), whence);
        let (start, end) = match seek(at, Whence::SeekData) {
            Ok(start) => {
                let start = u64::try_from(start).unwrap_or(len);
                let end = seek(start, Whence::SeekHole).ok();
                let end = end.and_then(|end| u64::try_from(end).ok());
                (start, end.unwrap_or(len))
            }
            Err(nix::Error::ENXIO) => break,
            Err(nix::Error::EINVAL) => (at, len),
            Err(why) => return Err(why.into()),
        };
        at = start;
        while at < end {
            let want =
                usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            source.read_exact_at(&mut buffer[..want], at)?;
            target.write_all_at(&buffer[..want], at)?;
            at += want as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("snap");
        let folder = Folder::create(&target, true).unwrap();
        folder.write("a", b"1").unwrap();
        assert!(!target.exists());
        drop(folder);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let folder = Folder::create(&target, false).unwrap();
        folder.write("a", b"1").unwrap();
        assert_eq!(folder.final_path("a"), target.join("a"));
        folder.commit().unwrap();
        assert_eq!(std::fs::read(target.join("a")).unwrap(), b"1");
        let again = Folder::create(&target, false).unwrap_err();
        assert!(again.to_string().contains("exists already"), "{again}");
    }

    #[test]
    fn what_a_dead_process_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("snap");
        let left = dir.path().join(format!("snap.tmp-{}", std::process::id()));
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("memory.0"), b"x").unwrap();
        let folder = Folder::create(&target, false).unwrap();
        folder.commit().unwrap();
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    }

    #[test]
    fn an_open_file_is_kept_whatever_became_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), b"layer").unwrap();
        let file = File::open(path("a")).unwrap();
        let kept = |to: &str| {
            keep(&file, &path("a"), &path(to)).unwrap();
            assert_eq!(std::fs::read(path(to)).unwrap(), b"layer", "{to}");
            is_same(&file, &path(to)).unwrap()
        };
        assert!(kept("by its name"));
        std::fs::write(path("other"), b"other").unwrap();
        std::fs::rename(path("other"), path("a")).unwrap();
        assert!(kept("by another name that it has"));
        std::fs::remove_file(path("a")).unwrap();
        assert!(kept("without its name"));
        for name in [
            "by its name",
            "by another name that it has",
            "without its name",
        ] {
            std::fs::remove_file(path(name)).unwrap();
        }
        assert!(!kept("without any name"), "a copy");
    }

    #[test]
    fn a_copy_keeps_its_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(&[7; 5000], 4 << 20).unwrap();
        copy_sparse(&File::open(&from).unwrap(), &to).unwrap();
        assert_eq!(std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
        use std::os::unix::fs::MetadataExt;
        assert!(std::fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
        let linked = dir.path().join("linked");
        assert!(link_or_copy(&from, &linked).unwrap());
    }
}
