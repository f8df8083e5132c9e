//! Moving between file systems, where rename(2) cannot: copy all of it, then remove the source. Blocks.
//!
//! ```text
//! source  ──copy──►  destination's directory/.<name>.<random>  ──rename──►  destination
//!    └──removed last
//! ```
//!
//! Mode, owner, times, extended attributes and links survive; hard links between files become copies. The
//! destination appears in one step and the source goes only when it has, so that a full disk loses nothing.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};
use uuid::Uuid;

/// Moves `source` to `destination`, which is replaced unless it is a directory.
///
/// # Errors
/// The first that occurs; the half-made copy is removed again.
pub fn move_across(source: &Path, destination: &Path) -> io::Result<()> {
    let name = destination.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let staging = destination.with_file_name(format!(
        ".{}.{}",
        name.to_string_lossy(),
        Uuid::new_v4().simple()
    ));
    let copied = copy_tree(source, &staging).and_then(|()| fs::rename(&staging, destination));
    if let Err(error) = copied {
        // The first error is the one to tell; what cannot be cleaned up stays visible under its name.
        let _ = remove(&staging);
        return Err(error);
    }
    remove(source)
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// Copies a whole tree, directories finished after what they hold (their times change while it is filled).
fn copy_tree(source: &Path, destination: &Path) -> io::Result<()> {
    enum Step {
        Copy(PathBuf, PathBuf),
        Finish(PathBuf, PathBuf, Metadata),
    }
    let mut left = vec![Step::Copy(source.into(), destination.into())];
    while let Some(step) = left.pop() {
        match step {
            Step::Finish(from, to, metadata) => {
                finish(&from, &File::open(&to)?, &metadata)?;
            }
            Step::Copy(from, to) => {
                let metadata = fs::symlink_metadata(&from)?;
                if metadata.is_dir() {
                    fs::create_dir(&to)?;
                    left.push(Step::Finish(from.clone(), to.clone(), metadata));
                    for item in fs::read_dir(&from)? {
                        let name = item?.file_name();
                        left.push(Step::Copy(from.join(&name), to.join(&name)));
                    }
                } else {
                    copy_leaf(&from, &to, &metadata)?;
                }
            }
        }
    }
    Ok(())
}

fn copy_leaf(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        lchown(to, Some(metadata.uid()), Some(metadata.gid()))
    } else if kind.is_file() {
        let mut input = File::open(from)?;
        let mut output = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)?;
        // On Linux this lets the kernel copy.
        io::copy(&mut input, &mut output)?;
        finish(from, &output, metadata)
    } else {
        // Pipes, sockets and devices have no content to copy.
        let kind = FileType::from_raw_mode(metadata.mode());
        mknodat(
            CWD,
            to,
            kind,
            Mode::from_raw_mode(metadata.mode() & 0o7777),
            metadata.rdev(),
        )?;
        lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))
    }
}

/// Gives a copy the owner, attributes, mode and times of its original, in this order: a change of owner takes
/// set-id bits away, and everything else changes the times.
fn finish(from: &Path, to: &File, metadata: &Metadata) -> io::Result<()> {
    fchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    copy_attributes(from, to)?;
    to.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    let times = FileTimes::new()
        .set_accessed(metadata.accessed()?)
        .set_modified(metadata.modified()?);
    to.set_times(times)
}

/// Copies `user.*` attributes; a file system without them takes the file without.
fn copy_attributes(from: &Path, to: &File) -> io::Result<()> {
    let mut list = vec![0u8; 64 * 1024];
    let length = rustix::fs::listxattr(from, list.as_mut_slice()).unwrap_or(0);
    list.truncate(length);
    for raw in list
        .split(|byte| *byte == 0)
        .filter(|raw| raw.starts_with(b"user."))
    {
        let mut value = vec![0u8; 64 * 1024];
        let length = rustix::fs::getxattr(from, raw, value.as_mut_slice())?;
        let value = value.get(..length).unwrap_or_default();
        match rustix::fs::fsetxattr(to, raw, value, XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_tree_arrives_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("s");
        fs::create_dir_all(source.join("d")).unwrap();
        fs::write(source.join("d/f"), b"content").unwrap();
        fs::set_permissions(source.join("d/f"), fs::Permissions::from_mode(0o751)).unwrap();
        let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let times = FileTimes::new().set_modified(past);
        File::open(source.join("d/f"))
            .unwrap()
            .set_times(times)
            .unwrap();
        File::open(source.join("d"))
            .unwrap()
            .set_times(times)
            .unwrap();
        symlink("d/f", source.join("l")).unwrap();
        mknodat(
            CWD,
            source.join("p"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();

        let destination = dir.path().join("t");
        move_across(&source, &destination).unwrap();

        assert!(!source.exists());
        assert_eq!(fs::read(destination.join("d/f")).unwrap(), b"content");
        let file = fs::metadata(destination.join("d/f")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o751);
        assert_eq!(file.modified().unwrap(), past);
        assert_eq!(
            fs::metadata(destination.join("d"))
                .unwrap()
                .modified()
                .unwrap(),
            past
        );
        assert_eq!(
            fs::read_link(destination.join("l")).unwrap(),
            Path::new("d/f")
        );
        let pipe = fs::symlink_metadata(destination.join("p")).unwrap();
        assert_eq!(FileType::from_raw_mode(pipe.mode()), FileType::Fifo);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no staging is left"
        );
    }

    #[test]
    fn what_fails_leaves_the_source_and_no_staging() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("s");
        fs::write(&source, b"1").unwrap();
        fs::create_dir_all(dir.path().join("t/full")).unwrap();
        assert!(move_across(&source, &dir.path().join("t")).is_err());
        assert_eq!(fs::read(&source).unwrap(), b"1");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
