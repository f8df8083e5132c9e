//! The artefact cache: every long-made thing is made once per set of inputs.
//!
//! ```text
//! <root>/artifacts/<name>/<hash16>/      a finished artefact, never changed again
//! <root>/artifacts/<name>/.building-*/   one being made; becomes <hash16> by rename
//! <root>/artifacts/<name>/.lock          held (flock) by the one who makes it
//! <root>/artifacts/<name>/<hash16>.used  touched at each use; the two newest survive
//! <root>/logs/                           console and build logs
//! <root>/run/                            one folder per running lab or daemon
//! ```
//!
//! Order: look up → lock → look up again → build in a sibling → sync → rename → prune. A build
//! that fails or is killed leaves only a `.building-*` folder, which the next builder removes
//! while it holds the lock.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::progress::Progress;

/// Finished artefacts kept per name, newest use first.
const KEEP: usize = 2;

/// What every task of `xtask` is handed: where things are and where to report.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Root of the source tree (the folder of the workspace's `Cargo.toml`).
    pub workspace: PathBuf,
    /// The artefact cache.
    pub cache: Cache,
    /// Where progress is shown.
    pub progress: Progress,
}

impl Ctx {
    /// The context of this process: workspace and cache by environment. Cargo names the workspace
    /// at run time; what it named when compiling may have been another clone with the same target
    /// folder.
    ///
    /// # Errors
    /// When the cache folder can't be found out or made.
    pub fn new() -> Result<Self> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let workspace = package
            .parent()
            .filter(|root| root.join("Cargo.toml").is_file())
            .context("there is no workspace around xtask: run it as `cargo xtask`")?
            .to_path_buf();
        Ok(Self {
            workspace,
            cache: Cache::open()?,
            progress: Progress::new(),
        })
    }
}

/// The inputs of one artefact, hashed piece by piece.
///
/// Each piece is hashed with its label and length, so that no two different lists of pieces
/// share a hash.
#[derive(Debug, Clone)]
pub struct Key {
    name: String,
    hash: Sha256,
}

impl Key {
    /// A key for the artefact `name`: lower-case words with `-`, `_`, `.`, and `/` between parts
    /// (`kernel`, `images/base`).
    pub fn new(name: &str) -> Self {
        let mut key = Self {
            name: name.to_owned(),
            hash: Sha256::new(),
        };
        key.piece("name", name.as_bytes());
        key
    }

    /// Adds a text: a version, a package list, a command line.
    #[must_use]
    pub fn text(mut self, label: &str, value: &str) -> Self {
        self.piece(label, value.as_bytes());
        self
    }

    /// Adds one file's content and whether it is executable; its place doesn't count.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        self.add_file(
            &path.file_name().unwrap_or_default().to_string_lossy(),
            path,
        )?;
        Ok(self)
    }

    /// Adds a folder: relative paths, contents, executable bits and link targets, sorted.
    ///
    /// # Errors
    /// When something in it can't be read.
    pub fn dir(mut self, path: &Path) -> Result<Self> {
        self.add_dir(path, path)?;
        Ok(self)
    }

    /// The first 16 hex digits of the hash.
    #[must_use]
    pub fn hash16(&self) -> String {
        hex::encode(self.hash.clone().finalize())[..16].to_owned()
    }

    fn piece(&mut self, label: &str, value: &[u8]) {
        for part in [label.as_bytes(), value] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
    }

    fn add_file(&mut self, label: &str, path: &Path) -> Result<()> {
        let open = || format!("could not read {} to hash it", path.display());
        let mut file = File::open(path).with_context(open)?;
        let executable = file.metadata().with_context(open)?.permissions().mode() & 0o111 != 0;
        let mut inner = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer).with_context(open)?;
            if n == 0 {
                break;
            }
            inner.update(&buffer[..n]);
        }
        self.piece(if executable { "exec" } else { "file" }, label.as_bytes());
        self.piece("content", &inner.finalize());
        Ok(())
    }

    fn add_dir(&mut self, root: &Path, dir: &Path) -> Result<()> {
        let read = || format!("could not list {} to hash it", dir.display());
        let mut entries = fs::read_dir(dir)
            .with_context(read)?
            .collect::<std::io::Result<Vec<_>>>()
            .with_context(read)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let label = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            let kind = entry.file_type().with_context(read)?;
            if kind.is_dir() {
                self.piece("dir", label.as_bytes());
                self.add_dir(root, &path)?;
            } else if kind.is_symlink() {
                self.piece("link", label.as_bytes());
                self.piece("to", fs::read_link(&path)?.as_os_str().as_encoded_bytes());
            } else {
                self.add_file(&label, &path)?;
            }
        }
        Ok(())
    }
}

/// The cache folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache: `$SANDBOXD_CACHE`, else `$XDG_CACHE_HOME/sandboxd`, else
    /// `~/.cache/sandboxd`.
    ///
    /// # Errors
    /// When none of them is set or the folder can't be made.
    pub fn open() -> Result<Self> {
        let var = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let root = var("SANDBOXD_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("sandboxd")))
            .or_else(|| var("HOME").map(|dir| dir.join(".cache/sandboxd")))
            .context("no cache folder: set SANDBOXD_CACHE or HOME")?;
        Self::at(&std::path::absolute(&root)?)
    }

    /// Opens the cache at `root`, making the folder.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)
            .with_context(|| format!("could not make the cache folder {}", root.display()))?;
        // Canonical, because the lab sees the machine's folders by their real paths.
        Ok(Self {
            root: root.canonicalize()?,
        })
    }

    /// The cache folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A sub-folder of the cache, made when missing (`logs`, `run`, `downloads`, …).
    ///
    /// # Errors
    /// When it can't be made.
    pub fn dir(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
        Ok(dir)
    }

    /// The finished artefact of `key`, if there is one; doesn't build.
    #[must_use]
    pub fn lookup(&self, key: &Key) -> Option<PathBuf> {
        let dir = self
            .root
            .join("artifacts")
            .join(&key.name)
            .join(key.hash16());
        dir.is_dir().then(|| {
            touch(&dir.with_extension("used"));
            dir
        })
    }

    /// The folder of the artefact `key`; when missing, `build` makes it in an empty folder.
    ///
    /// `build` runs at most once at a time on this machine: a second process waits and then
    /// finds the result.
    ///
    /// # Errors
    /// Whatever `build` fails with, or when the cache can't be written.
    pub fn artifact(&self, key: &Key, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let well_formed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        ensure!(
            key.name.chars().all(well_formed) && !key.name.contains(".."),
            "'{}' is no name for an artefact",
            key.name
        );
        if let Some(found) = self.lookup(key) {
            return Ok(found);
        }
        let home = self.dir(Path::new("artifacts").join(&key.name))?;
        let _lock = Lock::acquire(&home.join(".lock"))?;
        if let Some(found) = self.lookup(key) {
            return Ok(found);
        }
        sweep_unfinished(&home)?;
        let building = tempfile::Builder::new()
            .prefix(".building-")
            .tempdir_in(&home)
            .with_context(|| format!("could not write to {}", home.display()))?;
        build(building.path()).with_context(|| format!("could not make '{}'", key.name))?;

        let done = home.join(key.hash16());
        let building = building.keep();
        fs::set_permissions(&building, fs::Permissions::from_mode(0o755))?;
        rustix::fs::sync();
        fs::rename(&building, &done)
            .with_context(|| format!("could not move the finished '{}' into place", key.name))?;
        touch(&done.with_extension("used"));
        prune(&home, &done)?;
        Ok(done)
    }
}

/// An exclusive lock on a file, held until dropped; other processes wait for it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock on `path`, making the file. Says so when it has to wait.
    ///
    /// # Errors
    /// When the file can't be opened or locked.
    pub fn acquire(path: &Path) -> Result<Self> {
        let what = || format!("could not lock {}", path.display());
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(what)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("another run holds {}; waiting for it", path.display());
            while let Err(error) = flock(&file, FlockOperation::LockExclusive) {
                if error != rustix::io::Errno::INTR {
                    return Err(error).with_context(what);
                }
            }
        }
        Ok(Self { _file: file })
    }
}

fn touch(path: &Path) {
    // Only decides what is pruned first: not worth failing for.
    let _ = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .and_then(|file| file.set_modified(SystemTime::now()));
}

fn sweep_unfinished(home: &Path) -> Result<()> {
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(b".building-")
        {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder with all it holds, also where files inside are read-only.
///
/// # Errors
/// When something can't be removed.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("could not remove {}: {error}", path.display())
        }
        _ => Ok(()),
    }
}

/// Which of the finished artefacts go: all but the newest [`KEEP`], never `current`.
fn outdated(mut found: Vec<(SystemTime, PathBuf)>, current: &Path) -> Vec<PathBuf> {
    found.sort_by(|a, b| (b.1 == current, b.0, &b.1).cmp(&(a.1 == current, a.0, &a.1)));
    found.into_iter().skip(KEEP).map(|(_, path)| path).collect()
}

fn prune(home: &Path, current: &Path) -> Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        let is_hash = |name: &OsStr| {
            name.len() == 16 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit)
        };
        if path.file_name().is_some_and(is_hash) && path.is_dir() {
            let used = fs::metadata(path.with_extension("used"))
                .and_then(|meta| meta.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((used, path));
        }
    }
    for old in outdated(found, current) {
        remove_tree(&old)?;
        let _ = fs::remove_file(old.with_extension("used"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        (dir, cache)
    }

    #[test]
    fn builds_once_per_key() {
        let (_dir, cache) = cache();
        let key = Key::new("kernel").text("version", "6.12");
        let first = cache
            .artifact(&key, |dir| Ok(fs::write(dir.join("vmlinux"), "elf")?))
            .unwrap();
        let again = cache
            .artifact(&key, |_| bail!("must not build twice"))
            .unwrap();
        assert_eq!(first, again);
        assert_eq!(fs::read_to_string(first.join("vmlinux")).unwrap(), "elf");
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_says_what_failed() {
        let (_dir, cache) = cache();
        let key = Key::new("kernel");
        let error = cache.artifact(&key, |_| bail!("no compiler")).unwrap_err();
        assert_eq!(format!("{error:#}"), "could not make 'kernel': no compiler");
        assert!(cache.lookup(&key).is_none());
        let left: Vec<_> = fs::read_dir(cache.root().join("artifacts/kernel"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, [OsStr::new(".lock")]);
    }

    #[test]
    fn what_a_killed_builder_left_is_swept() {
        let (_dir, cache) = cache();
        let home = cache.dir("artifacts/kernel").unwrap();
        fs::create_dir_all(home.join(".building-dead/sub")).unwrap();
        cache.artifact(&Key::new("kernel"), |_| Ok(())).unwrap();
        assert!(!home.join(".building-dead").exists());
    }

    #[test]
    fn keeps_the_two_newest() {
        let (_dir, cache) = cache();
        let made: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|v| {
                let path = cache
                    .artifact(&Key::new("x").text("v", v), |_| Ok(()))
                    .unwrap();
                std::thread::sleep(Duration::from_millis(5));
                path
            })
            .collect();
        assert_eq!(
            made.iter().map(|p| p.is_dir()).collect::<Vec<_>>(),
            [false, true, true]
        );
        assert!(!made[0].with_extension("used").exists());
    }

    #[test]
    fn the_current_one_is_never_outdated() {
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let found = vec![
            (at(9), "n".into()),
            (at(8), "m".into()),
            (at(1), "old".into()),
        ];
        assert_eq!(outdated(found, Path::new("old")), [PathBuf::from("m")]);
    }

    #[test]
    fn pieces_do_not_run_together() {
        let a = Key::new("x").text("ab", "c").hash16();
        let b = Key::new("x").text("a", "bc").hash16();
        assert_ne!(a, b);
    }

    #[test]
    fn a_folder_counts_by_content_not_by_place() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &two] {
            fs::create_dir(dir.path().join("sub")).unwrap();
            fs::write(dir.path().join("sub/file"), "text").unwrap();
        }
        let hash = |dir: &tempfile::TempDir| Key::new("x").dir(dir.path()).unwrap().hash16();
        assert_eq!(hash(&one), hash(&two));
        fs::write(two.path().join("sub/file"), "other").unwrap();
        assert_ne!(hash(&one), hash(&two));
    }

    #[test]
    fn names_may_not_leave_the_cache() {
        let (_dir, cache) = cache();
        assert!(cache.artifact(&Key::new("../out"), |_| Ok(())).is_err());
    }
}
