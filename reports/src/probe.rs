//! What this machine is: read from `/proc`, without starting anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::model::{Machine, Virtualization};

/// This machine. How guests run on it and the state of caches are the caller's to say.
#[must_use]
pub fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Machine {
        cpu: cpu_model(&read("/proc/cpuinfo")),
        cpus: std::thread::available_parallelism()
            .ok()
            .and_then(|n| u32::try_from(n.get()).ok())
            .unwrap_or(0),
        kernel: format!(
            "{} {}",
            read("/proc/sys/kernel/ostype").trim(),
            read("/proc/sys/kernel/osrelease").trim()
        ),
        virtualization: Virtualization::Unknown,
        memory_bytes: memory_total(&read("/proc/meminfo")),
        file_system: None,
        cache_state: None,
        versions: BTreeMap::new(),
    }
}

/// This machine as one on which no guests run: that of a client.
#[must_use]
pub fn client() -> Machine {
    Machine {
        virtualization: Virtualization::None,
        ..machine()
    }
}

/// Type of the file system that holds `path`, by the longest mount point above it.
#[must_use]
pub fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    mount_type(&fs::read_to_string("/proc/self/mounts").ok()?, &path)
}

/// The commit of the work tree in which the running program was built, where it still lies there.
#[must_use]
pub fn revision() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let git = Command::new("git")
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ])
        .current_dir(program.parent()?)
        .output()
        .ok()?;
    let said = String::from_utf8(git.stdout).ok()?;
    (git.status.success() && !said.trim().is_empty()).then(|| said.trim().to_owned())
}

fn cpu_model(cpuinfo: &str) -> String {
    let named = |key: &str| {
        cpuinfo.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    named("model name")
        .or_else(|| named("CPU part"))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn memory_total(meminfo: &str) -> u64 {
    let kib = meminfo.lines().find_map(|line| {
        let words = line.strip_prefix("MemTotal:")?;
        words.split_whitespace().next()?.parse::<u64>().ok()
    });
    kib.unwrap_or(0) << 10
}

fn mount_type(mounts: &str, path: &Path) -> Option<String> {
    let entry = |line: &str| {
        let mut words = line.split(' ').skip(1);
        // The kernel writes a blank as \040.
        let at = words.next()?.replace("\\040", " ");
        let kind = words.next()?.to_owned();
        path.starts_with(&at).then_some((at.len(), kind))
    };
    // Of mounts on one point the last one is what is seen.
    mounts
        .lines()
        .filter_map(entry)
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: A 9\n"), "A 9");
        assert_eq!(cpu_model(""), "unknown");
        assert_eq!(memory_total("MemTotal:  2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        assert_eq!(memory_total("nonsense"), 0);
    }

    #[test]
    fn the_nearest_mount_holds_a_path() {
        let mounts =
            "/dev/a / ext4 rw 0 0\ntmpfs /var/my\\040run tmpfs rw 0 0\noverlay / overlay rw 0 0\n";
        let kind = |path: &str| mount_type(mounts, Path::new(path));
        assert_eq!(kind("/var/my run/x").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/var/my runner").as_deref(), Some("overlay"));
    }

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let machine = machine();
        assert!(machine.cpus > 0 && machine.memory_bytes > 0, "{machine:?}");
        assert!(file_system(Path::new("/proc")).is_some());
    }
}
