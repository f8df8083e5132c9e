//! A VMM process in a folder of its own: whatever happens, neither outlives this.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

/// Where a program's last words go, in its folder.
const LOG: &str = "log";

/// A folder that goes when this does.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a folder below `base`. Names are short: the name of a Unix socket has room for 107 bytes.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(base: &Path) -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let dir = base.join(format!("m{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir).with_context(|| format!("could not make {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// Something in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running program. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `program` in `folder`, with nothing but its arguments.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(program: &Path, args: &[&str], folder: &Folder) -> Result<Self> {
        let log = File::create(folder.path(LOG))?;
        Command::new(program)
            .args(args)
            .env_clear()
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map(Self)
            .with_context(|| format!("could not start {}", program.display()))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The end of what a program in `folder` said.
#[must_use]
pub fn last_words(folder: &Folder) -> String {
    let text = fs::read(folder.path(LOG)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.reverse();
    lines.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outlives_it() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::new(base.path()).unwrap();
        let args = ["-c", "echo here >&2; exec /bin/sleep 60"];
        let mut process = Process::spawn(Path::new("/bin/sh"), &args, &folder).unwrap();
        assert!(process.lives());
        while last_words(&folder).is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(last_words(&folder), "here");
        let id = process.id();
        drop((process, folder));
        assert!(!Path::new(&format!("/proc/{id}")).exists());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
