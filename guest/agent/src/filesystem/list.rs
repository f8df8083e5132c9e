//! ListDir: a pre-order walk in the order of names, a parent before its children. Blocks.
//!
//! ```text
//! depth 2:   a            (file)
//!            b            (directory)
//!            b/c          (directory; its children are at depth 3 and stay out)
//!            b.txt        ("b" with all below it comes before "b.txt")
//! ```
//!
//! A link at the root is followed and the answer's paths stay below the path that was asked for; links inside
//! are shown and not followed. What vanishes while the walk runs is left out.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::entry::{self, Entry};
use super::error::FilesystemError;
use super::operations;
use crate::users::UserDb;

/// The most entries one answer holds: about 60 MB of messages.
pub const MAX_ENTRIES: usize = 100_000;

/// Everything below `path`, down to `depth` levels (0 counts as 1).
///
/// # Errors
/// Not found, not a directory, cyclic links, more than [`MAX_ENTRIES`] entries, or what the kernel says.
pub fn list(path: &Path, depth: u32, users: &UserDb) -> Result<Vec<Entry>, FilesystemError> {
    list_limited(path, depth, MAX_ENTRIES, users)
}

fn list_limited(
    path: &Path,
    depth: u32,
    limit: usize,
    users: &UserDb,
) -> Result<Vec<Entry>, FilesystemError> {
    let root = operations::resolve_directory(path)?;
    let mut entries = Vec::new();
    // A stack of directories being read, each with its names in reverse order, instead of recursion: a
    // guest can nest directories deeper than a stack is.
    let mut open = vec![Level {
        real: root.clone(),
        shown: path.into(),
        left: names_in(&root)?,
    }];
    while let Some(level) = open.last_mut() {
        let Some(name) = level.left.pop() else {
            open.pop();
            continue;
        };
        let real = level.real.join(&name);
        let shown = level.shown.join(&name);
        let found = match entry::read(&real, &shown, users) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(FilesystemError::io("stat", shown, error)),
        };
        let descend = found.kind == entry::EntryKind::Directory
            && !found.is_symlink
            && open.len() < usize::try_from(depth.max(1)).unwrap_or(usize::MAX);
        entries.push(found);
        if entries.len() > limit {
            return Err(FilesystemError::TooManyEntries {
                path: path.into(),
                limit,
            });
        }
        if descend {
            match names_in(&real) {
                Ok(left) => open.push(Level { real, shown, left }),
                Err(FilesystemError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(entries)
}

/// One directory on the way down.
struct Level {
    real: PathBuf,
    shown: PathBuf,
    left: Vec<OsString>,
}

/// The names in a directory, last first.
fn names_in(path: &Path) -> Result<Vec<OsString>, FilesystemError> {
    let failed = |error| FilesystemError::io("read directory", path, error);
    let mut names = fs::read_dir(path)
        .map_err(failed)?
        .map(|found| found.map(|found| found.file_name()))
        .collect::<io::Result<Vec<OsString>>>()
        .map_err(failed)?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn paths(root: &Path, depth: u32) -> Vec<String> {
        list(root, depth, &UserDb::default())
            .unwrap()
            .into_iter()
            .map(|entry| entry.path[root.to_str().unwrap().len()..].to_owned())
            .collect()
    }

    #[test]
    fn the_walk_is_pre_order_by_name_and_stops_at_the_depth() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("b/c/d")).unwrap();
        fs::write(root.join("a"), b"").unwrap();
        fs::write(root.join("b.txt"), b"").unwrap();
        fs::write(root.join("b/z"), b"").unwrap();
        assert_eq!(paths(root, 0), ["/a", "/b", "/b.txt"]);
        assert_eq!(paths(root, 1), ["/a", "/b", "/b.txt"]);
        assert_eq!(paths(root, 2), ["/a", "/b", "/b/c", "/b/z", "/b.txt"]);
        assert_eq!(
            paths(root, u32::MAX),
            ["/a", "/b", "/b/c", "/b/c/d", "/b/z", "/b.txt"]
        );
    }

    #[test]
    fn a_link_at_the_root_is_followed_and_links_inside_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir_all(real.join("inner")).unwrap();
        fs::write(real.join("inner/f"), b"").unwrap();
        symlink(&real, real.join("loop")).unwrap();
        let link = dir.path().join("link");
        symlink(&real, &link).unwrap();
        assert_eq!(paths(&link, 5), ["/inner", "/inner/f", "/loop"]);
        let shown = list(&link, 1, &UserDb::default()).unwrap();
        assert!(
            shown
                .iter()
                .all(|entry| entry.path.starts_with(link.to_str().unwrap()))
        );
        assert_eq!(shown[1].kind, entry::EntryKind::Directory);
        assert!(shown[1].is_symlink);
    }

    #[test]
    fn files_and_missing_paths_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), b"").unwrap();
        let error = list(&dir.path().join("f"), 1, &UserDb::default()).unwrap_err();
        assert!(
            matches!(error, FilesystemError::NotADirectory(_)),
            "{error}"
        );
        let error = list(&dir.path().join("none"), 1, &UserDb::default()).unwrap_err();
        assert!(matches!(error, FilesystemError::NotFound(_)), "{error}");
    }

    #[test]
    fn more_entries_than_an_answer_holds_are_refused_with_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..5 {
            fs::write(dir.path().join(index.to_string()), b"").unwrap();
        }
        assert_eq!(
            list_limited(dir.path(), 1, 5, &UserDb::default())
                .unwrap()
                .len(),
            5
        );
        let error = list_limited(dir.path(), 1, 4, &UserDb::default()).unwrap_err();
        assert!(error.to_string().contains("more than 4 entries"), "{error}");
    }
}
