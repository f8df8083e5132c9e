//! User metadata of a file: extended attributes named `user.e2b.<key>`.
//!
//! ```text
//! upload header   X-Metadata-Team: blue
//! attribute       user.e2b.team = "blue"
//! EntryInfo       metadata {"team": "blue"}
//! ```
//!
//! Only values that are UTF-8 are shown; others belong to somebody else. A file system without extended
//! attributes has no metadata, which is not an error when reading.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// What every attribute name of ours starts with.
pub const PREFIX: &str = "user.e2b.";

/// Attribute name lists longer than this are not read (the kernel's own limit, `XATTR_LIST_MAX`).
const MAX_LIST: usize = 64 * 1024;
/// Values longer than this are not shown (uploads are limited to 4,096 bytes in all).
const MAX_VALUE: usize = 4096;

/// Key (without the prefix) to value, sorted by key.
pub type Metadata = BTreeMap<String, String>;

/// Reads the metadata of what `path` leads to, following symbolic links. Empty when there is none.
pub fn read(path: &Path) -> Metadata {
    // One call answers the common case, a file with few attributes or none.
    let mut list = vec![0u8; 1024];
    let length = match rustix::fs::listxattr(path, list.as_mut_slice()) {
        Err(Errno::RANGE) => {
            list.resize(MAX_LIST, 0);
            rustix::fs::listxattr(path, list.as_mut_slice())
        }
        length => length,
    };
    list.truncate(length.unwrap_or(0));
    our_names(&list)
        .filter_map(|(name, key)| {
            let mut value = [0u8; MAX_VALUE];
            let length = rustix::fs::getxattr(path, name, value.as_mut_slice()).ok()?;
            let value = std::str::from_utf8(value.get(..length)?).ok()?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Makes `wanted` the whole metadata of an open file: others of ours are removed, others' attributes stay.
///
/// Does nothing at all, not even a system call that a watcher could see, when there is nothing to set or clear.
///
/// # Errors
/// The error of the first attribute that could not be set or removed; `ENOTSUP` where the file system has none.
pub fn replace(file: impl AsFd, fresh: bool, wanted: &Metadata) -> Result<(), Errno> {
    let file = file.as_fd();
    if !fresh {
        let mut list = vec![0u8; MAX_LIST];
        let length = rustix::fs::flistxattr(file, list.as_mut_slice()).unwrap_or(0);
        list.truncate(length);
        for (name, key) in our_names(&list) {
            if !wanted.contains_key(key) {
                match rustix::fs::fremovexattr(file, name) {
                    Ok(()) | Err(Errno::NODATA) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    for (key, value) in wanted {
        let name = format!("{PREFIX}{key}");
        rustix::fs::fsetxattr(file, name.as_str(), value.as_bytes(), XattrFlags::empty())?;
    }
    Ok(())
}

/// The names with our prefix in a NUL-separated list, each with its key.
fn our_names(list: &[u8]) -> impl Iterator<Item = (&CStr, &str)> {
    list.split_inclusive(|byte| *byte == 0).filter_map(|raw| {
        let name = CStr::from_bytes_with_nul(raw).ok()?;
        let key = name.to_str().ok()?.strip_prefix(PREFIX)?;
        Some((name, key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether the test's file system has user attributes; where it has none there is nothing to test.
    fn supported(file: &std::fs::File) -> bool {
        rustix::fs::fsetxattr(file, "user.probe", b"1", XattrFlags::empty()).is_ok()
    }

    #[test]
    fn a_set_is_replaced_as_a_whole_and_leaves_foreign_attributes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = std::fs::File::create(&path).unwrap();
        if !supported(&file) {
            eprintln!("not tested here: this file system has no user extended attributes");
            return;
        }
        let one = Metadata::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        replace(&file, true, &one).unwrap();
        assert_eq!(read(&path), one);
        let two = Metadata::from([("b".into(), "3".into())]);
        replace(&file, false, &two).unwrap();
        assert_eq!(read(&path), two);
        rustix::fs::fsetxattr(&file, "user.e2b.raw", b"\xff", XattrFlags::empty()).unwrap();
        assert_eq!(read(&path), two, "a value that is not UTF-8 is not shown");
        replace(&file, false, &Metadata::new()).unwrap();
        assert_eq!(read(&path), Metadata::new());
        let mut probe = [0u8; 8];
        assert_eq!(
            rustix::fs::fgetxattr(&file, "user.probe", probe.as_mut_slice()),
            Ok(1)
        );
    }

    proptest! {
        #[test]
        fn any_list_is_taken_apart_without_panic(list in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (name, key) in our_names(&list) {
                prop_assert_eq!(name.to_str().unwrap(), format!("{PREFIX}{key}"));
            }
        }
    }
}
