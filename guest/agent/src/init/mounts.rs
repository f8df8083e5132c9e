//! From the kernel's root (the agent disk) to the sandbox's root.
//!
//! ```text
//!   /dev/vda erofs  ── kernel's root, holds only the agent and mount points
//!   /dev/vdb erofs  ── /base      template, read-only      ─┐
//!   /dev/vdc ext4   ── /overlay   writable, upper + work   ─┴─▶ overlayfs /newroot ──pivot──▶ /
//!
//!   /  ├── dev (devtmpfs) ── pts, shm
//!      ├── proc, sys ── fs/cgroup (cgroup v2)
//!      ├── run (tmpfs)
//!      └── tmp   stays on the disk: sandboxes put more there than fits into memory
//! ```
//!
//! devtmpfs is one instance however often it is mounted, so nothing has to be moved: the new root gets its own mounts
//! and the old root, with `/base` and `/overlay` in it, is detached; overlayfs keeps both layers.

use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// How long the disks may take to appear. The kernel has probed all devices before it starts PID 1 as a rule.
const DISK_LIMIT: Duration = Duration::from_secs(5);

/// Why the root file system cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A file system cannot be mounted.
    #[error("{what} cannot be mounted at {target}: {error}.")]
    Mount {
        /// Source or type of the file system.
        what: String,
        /// Where.
        target: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// A directory, link or device cannot be made.
    #[error("{path} cannot be made: {error}.")]
    Make {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The new root cannot be entered.
    #[error("The new root cannot be entered ({step}): {error}.")]
    Pivot {
        /// The system call.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// A disk of the microVM is missing.
    #[error(
        "The disk {0} is missing; the microVM needs agent, template and writable disk, in this order."
    )]
    NoDisk(&'static str),
}

const PSEUDO: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Makes the overlay root and enters it.
///
/// # Errors
/// [`MountError`] for the first step that fails.
pub fn make_root() -> Result<(), MountError> {
    mount_devices(Path::new("/dev"))?;
    wait_for_disk("/dev/vdb")?;
    wait_for_disk("/dev/vdc")?;
    do_mount("/dev/vdb", "/base", "erofs", MountFlags::RDONLY, None)?;
    // The disk comes with its inode tables written; nothing must write to it in the background.
    do_mount(
        "/dev/vdc",
        "/overlay",
        "ext4",
        MountFlags::NOATIME,
        Some(c"noinit_itable"),
    )?;
    make_dir("/overlay/upper", 0o755)?;
    make_dir("/overlay/work", 0o755)?;
    // redirect_dir: directories of the template can be renamed; xino: inode numbers are unique over both layers.
    let layers =
        c"lowerdir=/base,upperdir=/overlay/upper,workdir=/overlay/work,redirect_dir=on,xino=auto";
    do_mount(
        "overlay",
        "/newroot",
        "overlay",
        MountFlags::NOATIME,
        Some(layers),
    )?;
    populate(Path::new("/newroot"))?;
    pivot("/newroot")
}

fn populate(root: &Path) -> Result<(), MountError> {
    let at = |name: &str| root.join(name);
    mount_devices(&at("dev"))?;
    make_dir(at("dev/pts"), 0o755)?;
    let terminals = Some(c"gid=5,mode=620,ptmxmode=666");
    do_mount(
        "devpts",
        at("dev/pts"),
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        terminals,
    )?;
    make_dir(at("dev/shm"), 0o1777)?;
    let shared = MountFlags::NOSUID | MountFlags::NODEV;
    do_mount("shm", at("dev/shm"), "tmpfs", shared, Some(c"mode=1777"))?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let path = at("dev").join(name);
        ignore_existing(symlink(target, &path))
            .map_err(|error| MountError::Make { path, error })?;
    }
    // As udev does; a kernel without FUSE has no such device.
    let _ = fs::set_permissions(at("dev/fuse"), Permissions::from_mode(0o666));

    for (name, kind) in [("proc", "proc"), ("sys", "sysfs")] {
        make_dir(at(name), 0o555)?;
        do_mount(kind, at(name), kind, PSEUDO, None)?;
    }
    do_mount(
        "cgroup2",
        at("sys/fs/cgroup"),
        "cgroup2",
        PSEUDO,
        Some(c"nsdelegate"),
    )?;
    make_dir(at("run"), 0o755)?;
    do_mount("run", at("run"), "tmpfs", shared, Some(c"mode=755"))?;
    make_dir(at("run/lock"), 0o1777)?;
    make_dir(at("tmp"), 0o1777)
}

fn pivot(root: &str) -> Result<(), MountError> {
    let step = |step| {
        move |error: rustix::io::Errno| MountError::Pivot {
            step,
            error: error.into(),
        }
    };
    rustix::process::chdir(root).map_err(step("chdir"))?;
    // Both paths the same: the old root is mounted on top of the new one and then detached (pivot_root(2)).
    rustix::process::pivot_root(".", ".").map_err(step("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(step("umount"))?;
    rustix::process::chdir("/").map_err(step("chdir"))
}

/// Mounts devtmpfs; the kernel may have done it already (`CONFIG_DEVTMPFS_MOUNT`).
fn mount_devices(target: &Path) -> Result<(), MountError> {
    match do_mount(
        "devtmpfs",
        target,
        "devtmpfs",
        MountFlags::NOSUID,
        Some(c"mode=755"),
    ) {
        Err(MountError::Mount { error, .. }) if error.kind() == io::ErrorKind::ResourceBusy => {
            Ok(())
        }
        other => other,
    }
}

fn do_mount(
    what: &str,
    target: impl AsRef<Path>,
    kind: &str,
    flags: MountFlags,
    data: Option<&CStr>,
) -> Result<(), MountError> {
    let target = target.as_ref();
    mount(what, target, kind, flags, data).map_err(|error| MountError::Mount {
        what: what.to_owned(),
        target: target.display().to_string(),
        error: error.into(),
    })
}

/// Makes a directory with exactly `mode`, unless something is there already.
fn make_dir(path: impl AsRef<Path>, mode: u32) -> Result<(), MountError> {
    let path = path.as_ref();
    let made = match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        other => ignore_existing(other),
    };
    made.map_err(|error| MountError::Make {
        path: path.to_path_buf(),
        error,
    })
}

fn ignore_existing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn wait_for_disk(path: &'static str) -> Result<(), MountError> {
    let start = Instant::now();
    while !Path::new(path).exists() {
        if start.elapsed() > DISK_LIMIT {
            return Err(MountError::NoDisk(path));
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
