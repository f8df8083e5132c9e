//! Storage: can the state directory clone files without copying (FICLONE)?
//!
//! Source: ioctl_ficlone(2). Both files are unnamed or removed at once, so nothing stays behind.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::check::Check;

/// The report's line on reflinks under `dir`, or under its nearest existing ancestor.
#[must_use]
pub fn check(dir: &Path) -> Check {
    let Some(place) = existing_ancestor(dir) else {
        return judge(dir, Err(Errno::NOENT));
    };
    judge(&place, try_clone(&place))
}

fn existing_ancestor(dir: &Path) -> Option<PathBuf> {
    dir.ancestors()
        .find(|path| path.is_dir())
        .map(Path::to_path_buf)
}

/// Clones one small file to another in `dir`.
fn try_clone(dir: &Path) -> Result<(), Errno> {
    let base = dir.join(format!(".doctor-{}", std::process::id()));
    let (from, to) = (base.with_extension("from"), base.with_extension("to"));
    let result = (|| {
        let mut source = fs::File::create_new(&from).map_err(|e| errno(&e))?;
        source.write_all(&[7; 4096]).map_err(|e| errno(&e))?;
        let target = fs::File::create_new(&to).map_err(|e| errno(&e))?;
        rustix::fs::ioctl_ficlone(&target, &source)
    })();
    // Either may not exist; what matters is that neither stays.
    let _ = fs::remove_file(&from);
    let _ = fs::remove_file(&to);
    result
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn judge(dir: &Path, outcome: Result<(), Errno>) -> Check {
    let place = dir.display();
    match outcome {
        Ok(()) => Check::ok(
            "reflink",
            format!("works under {place}"),
            "Copies of disk files share their blocks",
        ),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::XDEV | Errno::NOSYS) => {
            Check::ok(
                "reflink",
                format!("not offered by the file system of {place}"),
                "Not needed: the block device keeps its own copy-on-write overlay; XFS or btrfs would make copies of those cheaper",
            )
        }
        Err(error) => Check::warn(
            "reflink",
            format!("could not be tried under {place}: {error}"),
            "The state directory must be writable by the daemon",
            format!("Create {place} or make it writable, or pass another --state-dir"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let _ = check(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_directory_is_judged_by_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        assert_eq!(existing_ancestor(&deep).as_deref(), Some(dir.path()));
    }

    #[test]
    fn absence_is_fine_but_an_unwritable_place_warns() {
        assert_eq!(
            judge(Path::new("/x"), Err(Errno::OPNOTSUPP)).status,
            Status::Ok
        );
        assert_eq!(
            judge(Path::new("/x"), Err(Errno::ACCESS)).status,
            Status::Warn
        );
        assert_eq!(judge(Path::new("/x"), Ok(())).status, Status::Ok);
    }
}
