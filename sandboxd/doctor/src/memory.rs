//! Memory: how much is free, and the kernel features that share, swap or enlarge pages.
//!
//! Sources: `/proc/meminfo` (proc(5); all sizes in KiB), `/sys/kernel/mm/ksm/run`
//! (Documentation/admin-guide/mm/ksm.rst), `/sys/kernel/mm/transparent_hugepage/`
//! (Documentation/admin-guide/mm/transhuge.rst).

use std::fs;

use crate::check::Check;

/// Least `MemAvailable`, in MiB, with which one default sandbox (512 MiB) and the daemon fit.
pub const MIN_AVAILABLE_MIB: u64 = 768;

/// The lines of `/proc/meminfo` that matter here. Sizes in KiB, counts in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    /// Memory of the machine.
    pub total: u64,
    /// Memory that new programs may take without swapping.
    pub available: u64,
    /// Swap space.
    pub swap_total: u64,
    /// Reserved huge pages.
    pub huge_total: u64,
    /// Reserved huge pages not in use.
    pub huge_free: u64,
    /// Size of one reserved huge page in KiB.
    pub huge_size: u64,
}

/// Parses the text of `/proc/meminfo`; lines that do not parse count as absent.
#[must_use]
pub fn parse_meminfo(text: &str) -> MemInfo {
    let mut info = MemInfo::default();
    for line in text.lines() {
        let Some((key, rest)) = line.split_once(':') else {
            continue;
        };
        let Some(value) = rest
            .split_ascii_whitespace()
            .next()
            .and_then(|v| v.parse().ok())
        else {
            continue;
        };
        match key {
            "MemTotal" => info.total = value,
            "MemAvailable" => info.available = value,
            "SwapTotal" => info.swap_total = value,
            "HugePages_Total" => info.huge_total = value,
            "HugePages_Free" => info.huge_free = value,
            "Hugepagesize" => info.huge_size = value,
            _ => {}
        }
    }
    info
}

/// The bracketed word of a sysfs choice file such as `always [madvise] never`.
#[must_use]
pub fn parse_choice(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word)
}

/// The report's lines on memory.
#[must_use]
pub fn checks() -> Vec<Check> {
    let info = parse_meminfo(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let thp = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok();
    let ksm = fs::read_to_string("/sys/kernel/mm/ksm/run").ok();
    vec![
        available(info),
        swap(info),
        hugepages(info, thp.as_deref().and_then(parse_choice)),
        self::ksm(ksm.as_deref().map(str::trim)),
    ]
}

fn available(info: MemInfo) -> Check {
    let found = format!(
        "{} of {} MiB available",
        info.available / 1024,
        info.total / 1024
    );
    if info.available / 1024 < MIN_AVAILABLE_MIB {
        Check::fail(
            "memory",
            found,
            format!("One default sandbox and the daemon need {MIN_AVAILABLE_MIB} MiB"),
            "Free memory or take a larger host",
        )
    } else {
        Check::ok(
            "memory",
            found,
            "Bounds how many sandboxes fit (512 MiB each by default, less what clones share)",
        )
    }
}

fn swap(info: MemInfo) -> Check {
    if info.swap_total == 0 {
        return Check::ok("swap", "off", "Guest memory never reaches a disk");
    }
    Check::warn(
        "swap",
        format!("{} MiB", info.swap_total / 1024),
        "Guest memory may be written to disk, and a swapped guest answers slowly",
        "swapoff -a, or encrypt the swap device",
    )
}

fn hugepages(info: MemInfo, thp: Option<&str>) -> Check {
    let thp = thp.unwrap_or("not reported");
    if info.huge_total == 0 {
        return Check::ok(
            "hugepages",
            format!("none reserved; transparent: {thp}"),
            "Not needed: sandboxes share 4 KiB pages copy-on-write",
        );
    }
    Check::warn(
        "hugepages",
        format!(
            "{} of {} free, {} KiB each; transparent: {thp}",
            info.huge_free, info.huge_total, info.huge_size
        ),
        "Reserved huge pages are not used for sandboxes and are lost to them",
        "Set vm.nr_hugepages=0 unless another program needs them",
    )
}

fn ksm(run: Option<&str>) -> Check {
    match run {
        None => Check::ok(
            "ksm",
            "not built in",
            "Nothing merges pages of different sandboxes",
        ),
        Some("0" | "2") => Check::ok("ksm", "off", "Nothing merges pages of different sandboxes"),
        Some(_) => Check::warn(
            "ksm",
            "on",
            "Merged pages let one sandbox learn by timing what another holds in memory",
            "echo 2 > /sys/kernel/mm/ksm/run (unmerges as well)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;
    use proptest::prelude::*;

    const TEXT: &str = "MemTotal:       24684096 kB\nMemAvailable:   24081556 kB\n\
        SwapTotal:             0 kB\nHugePages_Total:       8\nHugePages_Free:        3\n\
        Hugepagesize:       2048 kB\nOdd\nMemFree: many kB\n";

    #[test]
    fn reads_the_lines_that_matter() {
        let info = parse_meminfo(TEXT);
        assert_eq!(
            info,
            MemInfo {
                total: 24_684_096,
                available: 24_081_556,
                swap_total: 0,
                huge_total: 8,
                huge_free: 3,
                huge_size: 2048,
            }
        );
        assert_eq!(available(info).status, Status::Ok);
        assert_eq!(hugepages(info, Some("madvise")).status, Status::Warn);
    }

    #[test]
    fn too_little_memory_fails_at_the_bound() {
        let just = MemInfo {
            available: MIN_AVAILABLE_MIB * 1024,
            ..MemInfo::default()
        };
        assert_eq!(available(just).status, Status::Ok);
        let under = MemInfo {
            available: MIN_AVAILABLE_MIB * 1024 - 1,
            ..MemInfo::default()
        };
        assert_eq!(available(under).status, Status::Fail);
        assert_eq!(available(MemInfo::default()).status, Status::Fail);
    }

    #[test]
    fn swap_and_ksm_warn_only_when_on() {
        assert_eq!(
            swap(MemInfo {
                swap_total: 1024,
                ..MemInfo::default()
            })
            .status,
            Status::Warn
        );
        assert_eq!(ksm(Some("1")).status, Status::Warn);
        assert_eq!(ksm(Some("0")).status, Status::Ok);
        assert_eq!(ksm(None).status, Status::Ok);
    }

    #[test]
    fn choice_files() {
        assert_eq!(parse_choice("always [madvise] never\n"), Some("madvise"));
        assert_eq!(parse_choice("always"), None);
        assert_eq!(parse_choice("]["), None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in any::<String>()) {
            let _ = parse_meminfo(&text);
            let _ = parse_choice(&text);
        }
    }
}
