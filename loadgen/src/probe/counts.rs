//! Counts of what a service could leave behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Deepest folder that is looked into, and most entries that are counted.
const DEEPEST: usize = 32;
const MOST: u64 = 10_000_000;

/// Processes of this name.
#[must_use]
pub fn processes(name: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let comm = fs::read_to_string(format!("/proc/{id}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    })
    .collect()
}

/// All counts, by name. What cannot be looked at is missing.
#[must_use]
pub fn all(processes_found: &[u32], daemon: &str, folders: &[PathBuf]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut put = |name: &str, count: Option<u64>| {
        counts.extend(count.map(|count| (name.to_owned(), count)));
    };
    put("processes", u64::try_from(processes_found.len()).ok());
    put("taps", entries(Path::new("/sys/class/net")));
    let mounts = fs::read_to_string("/proc/self/mounts").ok();
    put(
        "mounts",
        mounts.and_then(|text| u64::try_from(text.lines().count()).ok()),
    );
    let daemons = processes(daemon);
    let open = daemons
        .iter()
        .filter_map(|id| entries(Path::new(&format!("/proc/{id}/fd"))));
    put("fds", (!daemons.is_empty()).then(|| open.sum()));
    put("cgroups", below(Path::new("/sys/fs/cgroup"), Kind::Folders));
    put(
        "pinned bpf objects",
        below(Path::new("/sys/fs/bpf"), Kind::Files),
    );
    if !folders.is_empty() {
        put(
            "files",
            Some(
                folders
                    .iter()
                    .filter_map(|folder| below(folder, Kind::Files))
                    .sum(),
            ),
        );
    }
    counts
}

fn entries(folder: &Path) -> Option<u64> {
    u64::try_from(fs::read_dir(folder).ok()?.count()).ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folders,
    Files,
}

/// Entries of a kind below a folder; links are not followed.
fn below(folder: &Path, kind: Kind) -> Option<u64> {
    let mut count = 0;
    let mut open = vec![(folder.to_owned(), 0)];
    fs::read_dir(folder).ok()?;
    while let Some((folder, depth)) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            count += u64::from(is_folder == (kind == Kind::Folders));
            if is_folder && depth < DEEPEST {
                open.push((entry.path(), depth + 1));
            }
            if count >= MOST {
                return Some(count);
            }
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_files_are_counted_and_links_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/x"), "").unwrap();
        fs::write(path.join("y"), "").unwrap();
        std::os::unix::fs::symlink(path, path.join("a/loop")).unwrap();
        assert_eq!(below(path, Kind::Folders), Some(2));
        assert_eq!(below(path, Kind::Files), Some(3));
        assert_eq!(below(&path.join("none"), Kind::Files), None);
    }
}
