//! cgroup v2: hard ceilings on a sandbox's processes, memory and CPU on the host's side.
//!
//! Sources: cgroups(7), Documentation/admin-guide/cgroup-v2.rst (`cgroup.controllers` lists what
//! the root may hand down).

use std::fs;
use std::path::{Path, PathBuf};

use crate::check::Check;

/// Controllers the daemon puts limits on.
const WANTED: [&str; 3] = ["cpu", "memory", "pids"];

/// Where the unified hierarchy is mounted, from the text of `/proc/self/mounts`.
///
/// Octal escapes of odd mount points are left as they are: such a path simply does not open.
#[must_use]
pub fn parse_mounts(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })
}

/// The report's line on cgroups.
#[must_use]
pub fn check() -> Check {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let root = parse_mounts(&mounts);
    let controllers = root
        .as_deref()
        .and_then(|root| fs::read_to_string(root.join("cgroup.controllers")).ok())
        .unwrap_or_default();
    judge(root.as_deref(), &controllers)
}

fn judge(root: Option<&Path>, controllers: &str) -> Check {
    let reason = "Ceilings on a sandbox's host-side memory, CPU and tasks need cgroup v2; without it only the VM's own size limits it";
    let remedy = "Boot with systemd.unified_cgroup_hierarchy=1 (cgroup_no_v1=all), or mount cgroup2 with the controllers free";
    let Some(root) = root else {
        return Check::warn("cgroup-v2", "not mounted", reason, remedy);
    };
    let have: Vec<&str> = controllers.split_ascii_whitespace().collect();
    let missing: Vec<&str> = WANTED
        .into_iter()
        .filter(|name| !have.contains(name))
        .collect();
    if missing.is_empty() {
        return Check::ok(
            "cgroup-v2",
            format!("{} with {}", root.display(), have.join(" ")),
            "Sandboxes get hard ceilings on host-side memory, CPU and tasks",
        );
    }
    Check::warn(
        "cgroup-v2",
        format!("{} lacks {}", root.display(), missing.join(" ")),
        reason,
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;
    use proptest::prelude::*;

    #[test]
    fn finds_the_unified_mount_also_beside_v1() {
        let text = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                    cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            parse_mounts(text),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        assert_eq!(parse_mounts("cgroup /c cgroup rw 0 0\n"), None);
    }

    #[test]
    fn controllers_taken_by_v1_are_named() {
        let check = judge(Some(Path::new("/u")), "cpuset io pids\n");
        assert_eq!(check.status, Status::Warn);
        assert_eq!(check.found, "/u lacks cpu memory");
        assert_eq!(judge(None, "").status, Status::Warn);
        assert_eq!(
            judge(Some(Path::new("/u")), "cpu memory pids").status,
            Status::Ok
        );
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in any::<String>()) {
            let _ = parse_mounts(&text);
        }
    }
}
