//! Waiting until a program has made its socket, without asking again and again: inotify(7).
//!
//! Ordering rule: watch, then start the program.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::PATIENCE;
use super::process::{Folder, Process, last_words};

/// How often a silent program is looked after.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// Between tries to connect to a socket that is bound and not yet listened on.
const LISTENING: Duration = Duration::from_micros(200);

/// Sees every new name in a folder.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Watches `folder`.
    ///
    /// # Errors
    /// When inotify refuses.
    pub fn new(folder: &Folder) -> Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let names = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, folder.path(""), names).context("could not watch a folder")?;
        Ok(Self(fd))
    }

    /// Waits until `process` has made `name` in `folder`; gives its path.
    ///
    /// # Errors
    /// When the process ends, or there is nothing within [`PATIENCE`].
    pub fn wait_for(self, folder: &Folder, name: &str, process: &mut Process) -> Result<PathBuf> {
        let path = folder.path(name);
        let deadline = Instant::now() + PATIENCE;
        while !path.exists() {
            if !process.lives() {
                bail!("the program ended at its start: {}", last_words(folder));
            }
            if Instant::now() > deadline {
                bail!("there is no {name} after {} s", PATIENCE.as_secs());
            }
            self.wait()?;
        }
        Ok(path)
    }

    /// Returns when a name appeared, or after a while.
    fn wait(&self) -> Result<()> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&TICK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut names = inotify::Reader::new(&self.0, &mut buffer);
        while names.next().is_ok() {}
        Ok(())
    }
}

/// Connects to a socket that is there and may not yet be listened on.
///
/// # Errors
/// When it takes no connection.
pub fn connect(path: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error)
                if error.kind() == std::io::ErrorKind::ConnectionRefused
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(LISTENING);
            }
            Err(error) => return Err(error).context("the socket takes no connection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(script: &str) -> Result<UnixStream> {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::new(base.path()).unwrap();
        let watch = Watch::new(&folder).unwrap();
        let program = Path::new("/usr/bin/python3");
        let mut process = Process::spawn(program, &["-c", script], &folder).unwrap();
        connect(&watch.wait_for(&folder, "s", &mut process)?)
    }

    #[test]
    fn a_socket_is_waited_for() {
        started(
            "import os, socket, time\n\
             time.sleep(0.1)\n\
             open('other', 'w')\n\
             s = socket.socket(socket.AF_UNIX); s.bind('s'); time.sleep(0.05); s.listen(); time.sleep(60)",
        )
        .unwrap();
    }

    #[test]
    fn a_program_that_ends_is_not_waited_for() {
        let error = started("raise SystemExit('no KVM')").unwrap_err();
        assert!(error.to_string().ends_with("no KVM"), "{error}");
    }
}
