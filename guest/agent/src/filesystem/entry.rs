//! One file or directory as clients see it.
//!
//! ```text
//!                     type            mode          permissions   symlink_target
//! regular, directory  its own         its own       its own       –
//! symlink             of the target   of the target L…, its own   target, fully resolved
//! broken symlink      unspecified     0             L…, its own   the link's own path
//! ```
//!
//! Size, owner and times are always those of the thing itself, never of a link's target. Source: the
//! `EntryInfo` message of E2B's Filesystem service and what its agent puts into it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::metadata::{self, Metadata};
use super::permissions::{self, Kind};
use crate::users::UserDb;

/// What a client is told an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file, or a link to one.
    File,
    /// A directory, or a link to one.
    Directory,
    /// Neither: a device, a pipe, a socket, or a link that leads nowhere.
    Unspecified,
}

impl From<Kind> for EntryKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File,
            Kind::Directory => Self::Directory,
            Kind::Symlink | Kind::Other => Self::Unspecified,
        }
    }
}

/// One file system object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Last component of the path.
    pub name: String,
    /// What it is; links count as what they lead to.
    pub kind: EntryKind,
    /// Absolute path.
    pub path: String,
    /// Size in bytes.
    pub size: i64,
    /// Permission bits, 0 to 0o777.
    pub mode: u32,
    /// Kind and permissions as Go prints them.
    pub permissions: String,
    /// Owner's name, or number where nobody has it.
    pub owner: String,
    /// Group's name, or number where no group has it.
    pub group: String,
    /// Last modification: seconds since 1970 and nanoseconds.
    pub modified: (i64, i32),
    /// For links: where they lead in the end.
    pub symlink_target: Option<String>,
    /// User metadata.
    pub metadata: Metadata,
    /// Whether it is a link itself.
    pub is_symlink: bool,
}

/// Reads the entry at `path` without following a link at its end. `shown` is the path the client is told.
///
/// # Errors
/// That of `lstat(2)`. A link that leads nowhere is no error.
pub fn read(path: &Path, shown: &Path, users: &UserDb) -> io::Result<Entry> {
    let own = fs::symlink_metadata(path)?;
    let is_symlink = own.file_type().is_symlink();
    let (kind, mode, symlink_target) = if is_symlink {
        let target = fs::canonicalize(path).ok();
        let followed = target.as_ref().and_then(|target| fs::metadata(target).ok());
        let target = target
            .as_deref()
            .unwrap_or(shown)
            .to_string_lossy()
            .into_owned();
        match followed {
            Some(followed) => (
                EntryKind::from(permissions::kind(followed.mode())),
                permissions::bits(followed.mode()),
                Some(target),
            ),
            None => (EntryKind::Unspecified, 0, Some(target)),
        }
    } else {
        let mode = own.mode();
        (
            EntryKind::from(permissions::kind(mode)),
            permissions::bits(mode),
            None,
        )
    };
    Ok(Entry {
        name: base_name(shown),
        kind,
        path: shown.to_string_lossy().into_owned(),
        size: i64::try_from(own.size()).unwrap_or(i64::MAX),
        mode,
        permissions: permissions::text(own.mode()),
        owner: users.user_name(own.uid()),
        group: users.group_name(own.gid()),
        modified: (own.mtime(), i32::try_from(own.mtime_nsec()).unwrap_or(0)),
        symlink_target,
        // The kernel keeps user attributes on files and directories only.
        metadata: match kind {
            EntryKind::Unspecified => Metadata::new(),
            EntryKind::File | EntryKind::Directory => metadata::read(path),
        },
        is_symlink,
    })
}

/// The last component, or the whole path where there is none (`/`).
pub fn base_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_described_by_its_own_inode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        fs::write(&path, b"hello").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let entry = read(&path, &path, &UserDb::default()).unwrap();
        assert_eq!(entry.name, "a.txt");
        assert_eq!(entry.kind, EntryKind::File);
        assert_eq!((entry.size, entry.mode), (5, 0o640));
        assert_eq!(entry.permissions, "-rw-r-----");
        assert_eq!(entry.symlink_target, None);
        assert!(!entry.is_symlink);
        assert!(entry.modified.0 > 1_500_000_000);
    }

    #[test]
    fn a_link_has_the_type_of_its_target_and_the_letter_of_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("d", root.join("one")).unwrap();
        symlink("one", root.join("two")).unwrap();
        let path = root.join("two");
        let entry = read(&path, &path, &UserDb::default()).unwrap();
        assert_eq!(entry.kind, EntryKind::Directory);
        assert_eq!(entry.mode, 0o750);
        assert_eq!(entry.permissions, "Lrwxrwxrwx");
        assert_eq!(entry.symlink_target.as_deref(), root.join("d").to_str());
        assert!(entry.is_symlink);
    }

    #[test]
    fn a_broken_link_is_of_no_type_and_shows_its_own_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broken");
        symlink("nowhere", &path).unwrap();
        let entry = read(&path, &path, &UserDb::default()).unwrap();
        assert_eq!(entry.kind, EntryKind::Unspecified);
        assert_eq!(entry.mode, 0);
        assert_eq!(entry.symlink_target.as_deref(), path.to_str());
    }

    #[test]
    fn the_root_is_named_by_its_path() {
        assert_eq!(base_name(Path::new("/")), "/");
        assert_eq!(base_name(Path::new("/a/b")), "b");
    }
}
