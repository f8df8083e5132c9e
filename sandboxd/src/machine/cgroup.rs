//! Host ceilings per machine, with cgroup v2 where the host has it.
//!
//! ```text
//!   <cgroup2 mount>/sandboxd/            controllers memory, pids, cpu handed down
//!   <cgroup2 mount>/sandboxd/<name>/     memory.max, memory.swap.max, pids.max, cpu.weight; one microvm process
//! ```
//!
//! A group has the name that its process was started under: the sandbox's id, or a name of the pool's when the process
//! was started before there was a sandbox. Moving a process later takes milliseconds, and groups cannot be renamed.
//!
//! The guest's memory and disk have hard sizes of their own; these ceilings hold a `microvm` process whose guest has
//! broken out of them. A host without the controllers still serves, and the daemon says so once at its start.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::Interest;
use tokio::time::timeout;

use super::sys;
use crate::ids::SandboxId;

/// Memory that a process may use beside its guest's, in MiB: its own code, buffers of the devices, page tables.
pub const PROCESS_OVERHEAD_MIB: u64 = 64;

/// Threads of one process: virtual processors, device loop, control; generous, and far below what could hurt.
const MAX_THREADS: u64 = 64;

/// `cpu.weight` of a process that serves a sandbox, and the default of the kernel.
const FULL_WEIGHT: &str = "100";

/// `cpu.weight` of a process that is made ready while nobody waits for it: the least that there is.
const LEAST_WEIGHT: &str = "1";

/// How long the kernel may take to let go of a group whose process is dead.
const LET_GO: Duration = Duration::from_secs(20);

/// Why the host cannot limit machines.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup v2 file system is mounted.
    #[error("no cgroup v2 file system is mounted")]
    NotMounted,
    /// The controllers are not available in the cgroup v2 tree.
    #[error("the cgroup v2 tree at {0} does not offer the controllers memory, pids and cpu")]
    NoControllers(PathBuf),
    /// The tree cannot be written.
    #[error("{path} cannot be written: {error}")]
    Write {
        /// File or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The daemon's branch of the cgroup tree.
#[derive(Clone, Debug)]
pub struct Cgroups {
    root: PathBuf,
}

impl Cgroups {
    /// Makes the daemon's branch.
    pub fn open() -> Result<Self, CgroupError> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = cgroup2_mount(&mounts).ok_or(CgroupError::NotMounted)?;
        let offered = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        let offers = |name| offered.split_ascii_whitespace().any(|c| c == name);
        if !["memory", "pids", "cpu"].into_iter().all(offers) {
            return Err(CgroupError::NoControllers(mount));
        }
        write(&mount.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
        let root = mount.join("sandboxd");
        make(&root)?;
        write(&root.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
        Ok(Self { root })
    }

    /// Makes a group for a machine that may hold `memory_mib` in memory, beside the process's own. The process joins by
    /// writing to what is returned. One that is not `urgent` yields to all others until [`Cgroups::make_urgent`].
    pub fn make(
        &self,
        name: &SandboxId,
        memory_mib: u64,
        urgent: bool,
    ) -> Result<OwnedFd, CgroupError> {
        let group = self.root.join(name.as_str());
        make(&group)?;
        let memory = (memory_mib.saturating_add(PROCESS_OVERHEAD_MIB)).saturating_mul(1 << 20);
        write(&group.join("memory.max"), &memory.to_string())?;
        write(&group.join("pids.max"), &MAX_THREADS.to_string())?;
        let weight = if urgent { FULL_WEIGHT } else { LEAST_WEIGHT };
        write(&group.join("cpu.weight"), weight)?;
        // Absent on a kernel without swap accounting; memory.max holds all the same.
        let _ = write(&group.join("memory.swap.max"), "0");
        let path = group.join("cgroup.procs");
        let file = File::options().write(true).open(&path);
        file.map(Into::into)
            .map_err(|error| CgroupError::Write { path, error })
    }

    /// From now on the process in a group is a sandbox's, or as good as.
    pub fn make_urgent(&self, name: &SandboxId) -> Result<(), CgroupError> {
        let group = self.root.join(name.as_str());
        write(&group.join("cpu.weight"), FULL_WEIGHT)
    }

    /// The group that a process is in, when it is one of this branch.
    pub fn of(&self, pid: i32) -> Option<SandboxId> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        group_in(&text, self.root.file_name()?.to_str()?)
    }

    /// Removes the group of a process that is dead.
    pub async fn remove(&self, name: &SandboxId) -> io::Result<()> {
        let group = self.root.join(name.as_str());
        let remove = || match std::fs::remove_dir(&group) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        match remove() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            done => return done,
        }
        // The kernel has not let go of the process yet, or of threads that it made for it, and says when it has.
        let _ = timeout(LET_GO, emptied(&group)).await;
        remove()
    }

    /// Names of the groups there are.
    pub fn present(&self) -> Vec<SandboxId> {
        std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| SandboxId::parse(entry.file_name().to_str()?))
            .collect()
    }

    /// Removes the daemon's branch when nothing is left in it.
    pub fn close(&self) {
        let _ = std::fs::remove_dir(&self.root);
    }
}

/// Resolves when nothing is left in a group (cgroup v2: `cgroup.events` has `populated`, and wakes with POLLPRI).
async fn emptied(group: &Path) -> io::Result<()> {
    let events = File::open(group.join("cgroup.events"))?;
    let watched = sys::watch(events.into(), Interest::PRIORITY)?;
    let mut text = [0; 256];
    loop {
        let len = rustix::io::pread(watched.get_ref(), &mut text, 0)?;
        if !String::from_utf8_lossy(&text[..len]).contains("populated 1") {
            return Ok(());
        }
        watched.ready(Interest::PRIORITY).await?.clear_ready();
    }
}

/// The group below `branch` in a `/proc/<pid>/cgroup` (cgroups(7): the unified tree has number 0 and no controllers).
fn group_in(text: &str, branch: &str) -> Option<SandboxId> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (above, name) = path.rsplit_once('/')?;
    let inside = above.rsplit('/').next() == Some(branch);
    SandboxId::parse(name).filter(|id| inside && id.as_str() == name)
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(CgroupError::Write {
            path: path.to_owned(),
            error,
        }),
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    std::fs::write(path, text).map_err(|error| CgroupError::Write {
        path: path.to_owned(),
        error,
    })
}

/// Whether files in a folder are kept in memory, and so count against the group that writes them: on a tmpfs
/// (statfs(2): `TMPFS_MAGIC`) what a guest writes to its disk is memory of its process.
pub fn is_in_memory(folder: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    rustix::fs::statfs(folder).is_ok_and(|stat| stat.f_type == TMPFS_MAGIC)
}

/// Mount point of the cgroup v2 file system in a `/proc/self/mountinfo` (proc_pid_mountinfo(5): the mount point is
/// field 5, the type is the first field behind the lone `-`). Prefers a mount at which the whole tree is seen.
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let mut fields = before.split(' ');
        let root = fields.nth(3)?;
        let point = fields.next()?;
        (kind == "cgroup2" && root == "/").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::{cgroup2_mount, group_in, is_in_memory};

    #[test]
    fn a_process_says_which_group_it_is_in() {
        let name = |text| group_in(text, "sandboxd").map(|id| id.to_string());
        assert_eq!(name("0::/sandboxd/pabc\n"), Some("pabc".to_owned()));
        let hybrid = "5:memory:/x\n0::/outer/sandboxd/iabc\n";
        assert_eq!(name(hybrid), Some("iabc".to_owned()));
        for other in [
            "",
            "0::/\n",
            "0::/sandboxd\n",
            "0::/user/iabc\n",
            "0::/sandboxd/a-b\n",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
        // A dead process's group that was removed meanwhile.
        assert_eq!(name("0::/sandboxd/iabc (deleted)\n"), None);
    }

    #[test]
    fn a_disk_counts_as_memory_only_where_it_is() {
        assert!(!is_in_memory("/proc".as_ref()));
        assert!(!is_in_memory("/does/not/exist".as_ref()));
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mut fields = mounts.lines().map(|line| line.split(' '));
        if let Some(point) = fields.find_map(|mut f| {
            let point = f.nth(1)?;
            // The last mount on a point is the one that is seen.
            (f.next()? == "tmpfs" && mounts.matches(&format!(" {point} ")).count() == 1)
                .then_some(point)
        }) {
            assert!(is_in_memory(point.as_ref()), "{point}");
        }
    }

    #[test]
    fn finds_the_unified_tree() {
        let pure = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(cgroup2_mount(pure), Some("/sys/fs/cgroup".into()));
        let hybrid = "40 39 0:35 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 39 0:36 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_mount("1 1 0:1 / / rw - ext4 /dev/vda rw"), None);
        assert_eq!(cgroup2_mount("garbage"), None);
    }
}
