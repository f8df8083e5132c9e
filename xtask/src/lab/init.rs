//! First program of the lab once its root stands: mounts the rest, loads modules, starts the
//! agent and reaps.
//!
//! ```text
//! init.sh ─ switch_root ─ lab-init (PID 1): mounts → modules → reaping
//!                            └─ lab-serve (child): the agent, see `agent`
//! ```
//!
//! The agent is a child, not PID 1 itself, so that reaping strangers here can't take away the
//! exit status of a command there. When the agent ends, the lab powers off.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{Resource, Rlimit, WaitOptions, setrlimit, wait};

use super::agent;
use super::wire::{AGENT_PORT, LabConfig};

const CONFIG: &str = "/run/lab/config.json";
/// The machine's root as it is, before anything covers it.
const LOWER: &str = "/run/lab/lower";
const MODPROBE: &str = "/run/lab/modprobe";

/// File systems mounted at start: kind, place, options.
const MOUNTS: [(&str, &str, &str); 9] = [
    ("devpts", "/dev/pts", "mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("mqueue", "/dev/mqueue", ""),
    ("cgroup2", "/sys/fs/cgroup", "nsdelegate"),
    ("bpf", "/sys/fs/bpf", "mode=700"),
    ("securityfs", "/sys/kernel/security", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
    ("debugfs", "/sys/kernel/debug", ""),
    ("tmpfs", "/var/lib/sandboxd", "mode=755,size=75%"),
];

/// Folders that the lab covers with file systems of its own.
const COVERED: [&str; 3] = ["/run", "/dev", "/var/lib/sandboxd"];

/// Loaded at start: those that nothing asks for by name. The rest (nf_tables, cls_bpf, veth, …)
/// loads when the kernel asks for it; loading costs up to half a second each here.
const MODULES: [&str; 2] = ["kvm_amd", "tun"];

/// Runs as PID 1. Never returns in a healthy lab.
///
/// # Errors
/// When the lab can't be made usable; the caller powers it off.
pub fn run() -> Result<()> {
    let config = config()?;
    for (kind, place, options) in MOUNTS {
        mount_at(kind, kind, Path::new(place), options)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        let _ = symlink(to, Path::new("/dev").join(name));
    }
    delegate_cgroups()?;
    for path in &config.visible {
        uncover(path)?;
    }
    mount_at(
        "9p",
        "share",
        &config.share,
        "trans=virtio,version=9p2000.L,msize=262144,cache=mmap",
    )?;
    modules(&config.modprobe)?;
    drives()?;
    machine()?;
    let mut server = Command::new("/proc/self/exe").arg("lab-serve").spawn()?;
    let server_id = rustix::process::Pid::from_child(&server);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == server_id => {
                anyhow::bail!("the lab agent ended: {status:?}");
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                let _ = server.kill();
                return Err(error).context("could not wait for children");
            }
        }
    }
}

/// Runs as the agent.
///
/// # Errors
/// When the agent can't listen.
pub fn serve() -> Result<()> {
    let config = config()?;
    let listener = TcpListener::bind(("0.0.0.0", AGENT_PORT))
        .with_context(|| format!("could not listen on port {AGENT_PORT}"))?;
    agent::serve(&listener, &config.token, power_off)
}

/// Switches the lab off at once. The machine's own file systems are read-only here and the
/// share is written through, so there is nothing to lose.
pub fn power_off() {
    rustix::fs::sync();
    let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
    let _ = fs::write("/proc/sysrq-trigger", "o");
}

fn config() -> Result<LabConfig> {
    let text = fs::read(CONFIG).with_context(|| format!("could not read {CONFIG}"))?;
    serde_json::from_slice(&text).with_context(|| format!("{CONFIG} isn't what was expected"))
}

fn mount_at(kind: &str, source: &str, place: &Path, options: &str) -> Result<()> {
    // The kernel makes its own places under /sys; there create_dir_all finds them.
    fs::create_dir_all(place).with_context(|| format!("could not make {}", place.display()))?;
    let options = std::ffi::CString::new(options)?;
    mount(source, place, kind, MountFlags::empty(), &*options)
        .with_context(|| format!("could not mount {kind} at {}", place.display()))
}

fn delegate_cgroups() -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    let all: Vec<_> = controllers
        .split_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    fs::write(root.join("cgroup.subtree_control"), all.join(" "))
        .context("could not delegate cgroup controllers")
}

/// Makes a folder of the machine seen again that one of ours covers.
fn uncover(path: &Path) -> Result<()> {
    if !COVERED.iter().any(|covered| path.starts_with(covered)) {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    let lower = PathBuf::from(format!("{LOWER}{}", path.display()));
    mount_bind(&lower, path).with_context(|| format!("could not show {}", path.display()))
}

fn modules(modprobe: &[String]) -> Result<()> {
    let words: Vec<_> = modprobe
        .iter()
        .map(|w| format!("'{}'", w.replace('\'', r"'\''")))
        .collect();
    let script = format!("#!/run/lab/busybox sh\nexec {} \"$@\"\n", words.join(" "));
    fs::write(MODPROBE, script)?;
    fs::set_permissions(MODPROBE, fs::Permissions::from_mode(0o755))?;
    fs::write("/proc/sys/kernel/modprobe", MODPROBE)?;
    let usual = Path::new("/sbin/modprobe");
    if !usual.exists() {
        let _ = symlink(MODPROBE, usual);
    }
    let status = Command::new(MODPROBE).arg("-a").args(MODULES).status()?;
    if !status.success() {
        // One missing module shows where it is needed; the console says which it was.
        eprintln!("lab-init: some modules could not be loaded");
    }
    Ok(())
}

/// `/dev/disk/by-serial/<serial>` for each attached drive.
fn drives() -> Result<()> {
    let dir = Path::new("/dev/disk/by-serial");
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        let serial = fs::read_to_string(Path::new("/sys/block").join(&name).join("serial"))
            .unwrap_or_default();
        let serial = serial.trim();
        if !serial.is_empty() && !serial.contains('/') {
            fs::create_dir_all(dir)?;
            symlink(Path::new("/dev").join(&name), dir.join(serial))?;
        }
    }
    Ok(())
}

fn machine() -> Result<()> {
    rustix::system::sethostname(b"lab")?;
    // The machine's own resolver may listen on its loopback, which isn't ours.
    let resolv = Path::new("/etc/resolv.conf");
    let _ = fs::remove_file(resolv);
    fs::write(resolv, "nameserver 10.0.2.3\n")?;
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777))?;
    let files = Some(1_048_576);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files,
            maximum: files,
        },
    )?;
    Ok(())
}
