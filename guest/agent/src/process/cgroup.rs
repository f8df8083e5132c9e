//! The cgroup that user processes live in, so that a fork bomb or a memory hog hits its own ceiling and the agent,
//! which stays outside, keeps answering.
//!
//! ```text
//!   /sys/fs/cgroup          agent, kernel threads
//!   └── user                pids.max, memory.max
//!       ├── root            processes that a client started as root: a larger share of the processors
//!       └── others          everyone else's: pids.max a little below
//! ```
//!
//! What root starts finds room, and is run, while a bomb of another user fills its own group: that is how a client
//! clears up. Root's own bomb still ends at the ceiling of `user`.
//!
//! A child joins by writing to `cgroup.procs` before it becomes the program. Joining is allowed even when the group is
//! at `pids.max` (cgroup v2: organisational operations are not limited), so one more `Start` always works.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Where cgroup v2 is mounted.
pub const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// Fewest threads that are kept for the agent and the kernel when `pids.max` is set.
const RESERVED_THREADS: u64 = 128;

/// Of a ceiling of this many processes, one is kept for root.
const ROOT_SHARE: u64 = 16;

/// `cpu.weight` of root's group; the default, which `others` has, is 100.
const ROOT_WEIGHT: &str = "1000";

/// Why the cgroup cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file of the cgroup cannot be used.
    #[error("The cgroup file {path} cannot be used: {error}.")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Processes did not stand still in time.
    #[error("Processes did not stand still within {0:?}.")]
    Restless(Duration),
}

/// The cgroup of user processes.
#[derive(Debug)]
pub struct UserCgroup {
    dir: PathBuf,
    root: File,
    others: File,
}

impl UserCgroup {
    /// Makes the groups below the mount point and opens them for joining.
    ///
    /// # Errors
    /// [`CgroupError::File`] naming the file that failed.
    pub fn create(mount_point: &Path) -> Result<Self, CgroupError> {
        let dir = mount_point.join("user");
        hand_down(mount_point);
        make(&dir)?;
        hand_down(&dir);
        let [root, others] = ["root", "others"].map(|name| {
            let group = dir.join(name);
            make(&group)?;
            let path = group.join("cgroup.procs");
            OpenOptions::new()
                .write(true)
                .open(&path)
                .map_err(|error| CgroupError::File { path, error })
        });
        let group = Self {
            dir,
            root: root?,
            others: others?,
        };
        if let Err(error) = group.write("root/cpu.weight", ROOT_WEIGHT) {
            tracing::warn!(%error, "root's processes get no larger share of the processors");
        }
        Ok(group)
    }

    /// `cgroup.procs` of the group that processes of a user belong to, open for writing.
    #[must_use]
    pub fn procs(&self, uid: u32) -> &File {
        if uid == 0 { &self.root } else { &self.others }
    }

    /// Sets the ceilings. `pids` 0 means no limit but that of the kernel; `memory` is in bytes.
    ///
    /// # Errors
    /// [`CgroupError::File`] naming the file that failed.
    pub fn limit(&self, pids: u64, memory: u64) -> Result<(), CgroupError> {
        let pids = effective_pids(pids, threads_max());
        self.write("pids.max", &pids.to_string())?;
        let others = (pids - pids / ROOT_SHARE).max(1);
        self.write("others/pids.max", &others.to_string())?;
        self.write("memory.max", &memory.to_string())
    }

    /// Holds every process in the group still, and returns once they stand (cgroup-v2.rst, `cgroup.freeze`).
    ///
    /// # Errors
    /// [`CgroupError::Restless`] when they do not in time, after letting them go on; [`CgroupError::File`].
    pub fn freeze(&self, patience: Duration) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", "1")?;
        match self.wait_frozen(patience) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.thaw()?;
                Err(CgroupError::Restless(patience))
            }
            Err(error) => {
                self.thaw()?;
                Err(error)
            }
        }
    }

    /// Lets the processes of the group go on. Harmless when they do.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", "0")
    }

    /// Waits until `cgroup.events` says that the group is frozen; the kernel announces each change of the file (POLLPRI).
    fn wait_frozen(&self, patience: Duration) -> Result<bool, CgroupError> {
        let path = self.dir.join("cgroup.events");
        let failed = |error| CgroupError::File {
            path: path.clone(),
            error,
        };
        let deadline = Instant::now() + patience;
        let mut file = File::open(&path).map_err(failed)?;
        loop {
            let mut text = String::new();
            file.rewind().map_err(failed)?;
            file.read_to_string(&mut text).map_err(failed)?;
            if is_frozen(&text) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = Timespec::try_from(left).unwrap_or_default();
            let mut wait = [PollFd::new(&file, PollFlags::PRI)];
            match poll(&mut wait, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// Kills every process in the group.
    ///
    /// # Errors
    /// [`CgroupError::File`]; kernels before 5.14 have no `cgroup.kill`.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
    }

    fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.dir.join(name);
        fs::write(&path, value).map_err(|error| CgroupError::File { path, error })
    }
}

/// Whether a `cgroup.events` says that its group is frozen.
fn is_frozen(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

/// Lets the groups below have controllers. One at a time: a kernel without one of them still gives the others.
fn hand_down(dir: &Path) {
    let control = dir.join("cgroup.subtree_control");
    for controller in ["+memory", "+pids", "+cpu"] {
        if let Err(error) = fs::write(&control, controller) {
            tracing::warn!(controller, %error, "cgroup controller is not available");
        }
    }
}

fn make(dir: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(CgroupError::File {
            path: dir.to_path_buf(),
            error,
        }),
        _ => Ok(()),
    }
}

/// The kernel's own limit of threads, which the agent must not share to the last one.
fn threads_max() -> u64 {
    fs::read_to_string("/proc/sys/kernel/threads-max")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(u64::from(u16::MAX))
}

/// `pids.max` such that the agent can always start threads: the wish (0 = none), at most the kernel's limit less a
/// reserve, at least 1.
fn effective_pids(wish: u64, threads_max: u64) -> u64 {
    let ceiling = threads_max.saturating_sub(RESERVED_THREADS).max(1);
    if wish == 0 {
        ceiling
    } else {
        wish.min(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_leave_room_for_the_agent() {
        assert_eq!(effective_pids(0, 4000), 3872);
        assert_eq!(effective_pids(1000, 4000), 1000);
        assert_eq!(effective_pids(10_000, 4000), 3872);
        assert_eq!(effective_pids(0, 10), 1);
    }

    #[test]
    fn frozen_is_read_from_the_events() {
        assert!(is_frozen("populated 1\nfrozen 1\n"));
        assert!(!is_frozen("populated 1\nfrozen 0\n"));
        assert!(!is_frozen(""));
    }

    #[test]
    fn a_group_is_made_with_its_limits() {
        // An ordinary directory stands in for the mount point; the kernel makes the files itself there.
        let root = tempfile::tempdir().expect("a directory");
        let missing =
            UserCgroup::create(root.path()).expect_err("no cgroup.procs in a plain directory");
        assert!(missing.to_string().contains("cgroup.procs"), "{missing}");
        for group in ["root", "others"] {
            let group = root.path().join("user").join(group);
            let _ = fs::create_dir(&group);
            fs::write(group.join("cgroup.procs"), "").expect("writable");
        }
        let group = UserCgroup::create(root.path()).expect("made");
        group.limit(512, 1 << 28).expect("limited");
        let read =
            |name: &str| fs::read_to_string(root.path().join("user").join(name)).expect(name);
        assert_eq!(
            ["pids.max", "others/pids.max", "memory.max"].map(read),
            ["512", "480", "268435456"]
        );

        // Processes that never stand still are let go again.
        let events = root.path().join("user/cgroup.events");
        fs::write(&events, "populated 1\nfrozen 0\n").expect("writable");
        let restless = group.freeze(Duration::from_millis(20));
        assert!(matches!(restless, Err(CgroupError::Restless(_))));
        assert_eq!(read("cgroup.freeze"), "0");
        fs::write(&events, "populated 1\nfrozen 1\n").expect("writable");
        group.freeze(Duration::from_millis(20)).expect("frozen");
        assert_eq!(read("cgroup.freeze"), "1");
    }
}
