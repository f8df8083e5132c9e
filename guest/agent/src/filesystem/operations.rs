//! Stat, MakeDir, Move and Remove as plain functions on resolved paths. All of them block.
//!
//! The agent acts as root and hands what it makes to the caller: new directories belong to the user that the
//! request names. File permissions are not checked against that user, because whoever holds the sandbox's
//! token may name any user, root included; the boundary is the virtual machine. E2B's agent does the same.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use super::copy;
use super::entry::{self, Entry};
use super::error::FilesystemError;
use crate::users::UserDb;

/// Who gets what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
}

/// The entry at `path`, a link at its end not followed.
///
/// # Errors
/// [`FilesystemError::NotFound`] when there is none, else what the kernel says.
pub fn stat(path: &Path, users: &UserDb) -> Result<Entry, FilesystemError> {
    entry::read(path, path, users).map_err(|error| FilesystemError::io("stat", path, error))
}

/// Makes a directory and whatever parents it lacks, each `0755` and owned by `owner`.
///
/// # Errors
/// [`FilesystemError::AlreadyExists`] for a directory, [`FilesystemError::InTheWay`] for anything else there.
pub fn make_dir(path: &Path, owner: Owner, users: &UserDb) -> Result<Entry, FilesystemError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(FilesystemError::AlreadyExists(path.into())),
        Ok(_) => return Err(FilesystemError::InTheWay(path.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(FilesystemError::io("stat", path, error)),
    }
    ensure_dirs(path, owner)?;
    stat(path, users)
}

/// Makes sure `path` is a directory: the missing ones are made `0755` and owned by `owner`, others stay as
/// they are.
///
/// # Errors
/// [`FilesystemError::NotADirectory`] when a component is something else.
pub fn ensure_dirs(path: &Path, owner: Owner) -> Result<(), FilesystemError> {
    let mut missing: Vec<&Path> = Vec::new();
    for ancestor in path.ancestors() {
        match fs::metadata(ancestor) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(FilesystemError::NotADirectory(ancestor.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(ancestor),
            Err(error) => return Err(FilesystemError::io("stat", ancestor, error)),
        }
    }
    for directory in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o755).create(directory) {
            Ok(()) => {
                // The umask may have taken bits away; the contract is 0755 whatever it is.
                fs::set_permissions(directory, permissions_0755())
                    .and_then(|()| chown(directory, Some(owner.uid), Some(owner.gid)))
                    .map_err(|error| FilesystemError::io("give away", directory, error))?;
            }
            // Somebody made it in between: good enough when it is a directory.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::metadata(directory).is_ok_and(|found| found.is_dir()) {
                    return Err(FilesystemError::InTheWay(directory.into()));
                }
            }
            Err(error) => return Err(FilesystemError::io("make", directory, error)),
        }
    }
    Ok(())
}

/// `rwxr-xr-x` as the type `set_permissions` takes.
fn permissions_0755() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

/// Renames `source` to `destination`, making the destination's parents first.
///
/// Between file systems (`/tmp` is one of its own) it is a copy, see [`copy`].
///
/// # Errors
/// [`FilesystemError::NotFound`] when there is no source.
pub fn rename(
    source: &Path,
    destination: &Path,
    owner: Owner,
    users: &UserDb,
) -> Result<Entry, FilesystemError> {
    // Looked at first, so that a missing source leaves no new directories behind.
    fs::symlink_metadata(source).map_err(|error| FilesystemError::io("move", source, error))?;
    if let Some(parent) = destination.parent() {
        ensure_dirs(parent, owner)?;
    }
    match fs::rename(source, destination) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy::move_across(source, destination)
        }
        outcome => outcome,
    }
    .map_err(|error| FilesystemError::io("move", source, error))?;
    stat(destination, users)
}

/// Removes a file, a link or a whole directory tree. Nothing there is no error.
///
/// # Errors
/// [`FilesystemError::Invalid`] for `/` itself, else what the kernel says.
pub fn remove(path: &Path) -> Result<(), FilesystemError> {
    if path.parent().is_none() || path.file_name() == Some(OsStr::new("..")) {
        return Err(FilesystemError::Invalid {
            reason: "refusing to remove",
            path: path.into(),
        });
    }
    let outcome = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(FilesystemError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Follows the links of `path` and checks that a directory is at the end.
///
/// # Errors
/// Not found, cyclic links, or not a directory.
pub fn resolve_directory(path: &Path) -> Result<PathBuf, FilesystemError> {
    let resolved =
        fs::canonicalize(path).map_err(|error| FilesystemError::io("resolve", path, error))?;
    match fs::metadata(&resolved) {
        Ok(found) if found.is_dir() => Ok(resolved),
        Ok(_) => Err(FilesystemError::NotADirectory(path.into())),
        Err(error) => Err(FilesystemError::io("stat", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn me() -> Owner {
        Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    #[test]
    fn parents_are_made_with_mode_and_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        let entry = make_dir(&path, me(), &UserDb::default()).unwrap();
        assert_eq!(entry.permissions, "drwxr-xr-x");
        for made in ["a", "a/b", "a/b/c"] {
            let found = fs::metadata(dir.path().join(made)).unwrap();
            assert_eq!(found.mode() & 0o777, 0o755);
            assert_eq!((found.uid(), found.gid()), (me().uid, me().gid));
        }
    }

    #[test]
    fn new_directories_go_to_the_named_owner() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not tested here: only root may give files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("theirs/inner");
        ensure_dirs(
            &path,
            Owner {
                uid: 1234,
                gid: 2345,
            },
        )
        .unwrap();
        for made in [path.as_path(), path.parent().unwrap()] {
            let found = fs::metadata(made).unwrap();
            assert_eq!((found.uid(), found.gid()), (1234, 2345));
        }
        assert_eq!(
            fs::metadata(dir.path()).unwrap().uid(),
            0,
            "what was there stays as it was"
        );
    }

    #[test]
    fn making_over_something_says_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, b"").unwrap();
        let error = make_dir(dir.path(), me(), &UserDb::default()).unwrap_err();
        assert!(
            matches!(error, FilesystemError::AlreadyExists(_)),
            "{error}"
        );
        let error = make_dir(&file, me(), &UserDb::default()).unwrap_err();
        assert!(matches!(error, FilesystemError::InTheWay(_)), "{error}");
        let error = make_dir(&file.join("x"), me(), &UserDb::default()).unwrap_err();
        assert!(
            matches!(error, FilesystemError::NotADirectory(_)),
            "{error}"
        );
    }

    #[test]
    fn moving_makes_the_parents_of_the_destination_but_none_for_a_missing_source() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("s");
        let destination = dir.path().join("x/y/d");
        let error = rename(&source, &destination, me(), &UserDb::default()).unwrap_err();
        assert!(matches!(error, FilesystemError::NotFound(_)), "{error}");
        assert!(!dir.path().join("x").exists());
        fs::write(&source, b"1").unwrap();
        let entry = rename(&source, &destination, me(), &UserDb::default()).unwrap();
        assert_eq!(entry.path, destination.to_str().unwrap());
        assert!(!source.exists() && destination.exists());
    }

    #[test]
    fn removing_takes_trees_links_and_nothing_alike() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("t");
        fs::create_dir_all(tree.join("deep/er")).unwrap();
        fs::write(tree.join("deep/f"), b"").unwrap();
        let link = dir.path().join("l");
        symlink(&tree, &link).unwrap();
        remove(&link).unwrap();
        assert!(tree.exists(), "the link goes, its target stays");
        remove(&tree).unwrap();
        assert!(!tree.exists());
        remove(&tree).unwrap();
        remove(&tree.join("below/nothing")).unwrap();
        assert!(remove(Path::new("/")).is_err());
    }

    #[test]
    fn cyclic_links_are_a_failed_precondition() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let error = resolve_directory(&dir.path().join("a")).unwrap_err();
        assert!(matches!(error, FilesystemError::Cyclic(_)), "{error}");
    }
}
