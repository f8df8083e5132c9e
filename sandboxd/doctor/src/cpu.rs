//! CPUs: how many, which extensions, whether two threads share a core.
//!
//! Source: `/proc/cpuinfo` and `/sys/devices/system/cpu/smt/active` (Linux
//! Documentation/ABI/testing/sysfs-devices-system-cpu).

use std::fs;

use crate::check::Check;

/// What `/proc/cpuinfo` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuInfo {
    /// Logical CPUs online.
    pub count: usize,
    /// Model name of the first CPU.
    pub model: Option<String>,
    /// `vmx` or `svm` when listed.
    pub extension: Option<&'static str>,
    /// The `hypervisor` flag: this machine is a guest.
    pub hypervisor: bool,
}

/// Parses the text of `/proc/cpuinfo`.
#[must_use]
pub fn parse_cpuinfo(text: &str) -> CpuInfo {
    let mut info = CpuInfo::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        match key.trim() {
            "processor" => info.count += 1,
            "model name" if info.model.is_none() => info.model = Some(value.trim().to_owned()),
            "flags" => {
                for flag in value.split_ascii_whitespace() {
                    match flag {
                        "vmx" => info.extension = Some("vmx"),
                        "svm" => info.extension = Some("svm"),
                        "hypervisor" => info.hypervisor = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    info
}

/// Reads this host's CPUs.
#[must_use]
pub fn read() -> CpuInfo {
    parse_cpuinfo(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// The report's lines on CPUs.
#[must_use]
pub fn checks(info: &CpuInfo) -> Vec<Check> {
    let model = info.model.as_deref().unwrap_or("unknown model");
    let count = match info.count {
        0 => Check::warn(
            "cpu-count",
            "unknown",
            "/proc/cpuinfo lists no CPU",
            "Mount /proc and run again",
        ),
        1 => Check::warn(
            "cpu-count",
            format!("1 ({model})"),
            "One CPU serves sandboxes, but creates and guests wait for each other",
            "Give the host two CPUs or more",
        ),
        n => Check::ok(
            "cpu-count",
            format!("{n} ({model})"),
            "Creates run beside guests",
        ),
    };
    let extension = match info.extension {
        Some("vmx") => Check::ok(
            "cpu-virtualization",
            "vmx (Intel VT-x)",
            "KVM can use hardware",
        ),
        Some(name) => Check::ok(
            "cpu-virtualization",
            format!("{name} (AMD-V)"),
            "KVM can use hardware",
        ),
        None => Check::warn(
            "cpu-virtualization",
            "neither vmx nor svm among the CPU flags",
            "Without them KVM, where it exists at all, is paravirtual",
            "Enable VT-x or SVM in the firmware, or nested virtualization at the cloud provider; else use the lab host",
        ),
    };
    vec![
        extension,
        count,
        smt(fs::read_to_string("/sys/devices/system/cpu/smt/active").ok()),
    ]
}

fn smt(active: Option<String>) -> Check {
    match active.as_deref().map(str::trim) {
        Some("1") => Check::warn(
            "smt",
            "on",
            "Two sandboxes on the threads of one core can observe each other through its caches",
            "For mutually hostile tenants: echo off > /sys/devices/system/cpu/smt/control",
        ),
        Some("0") => Check::ok(
            "smt",
            "off",
            "No two sandboxes share a core at the same time",
        ),
        _ => Check::ok(
            "smt",
            "not reported",
            "The kernel does not say; nothing to switch off here",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;
    use proptest::prelude::*;

    const INTEL: &str = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu vmx hypervisor\n\n\
                         processor\t: 1\nmodel name\t: Xeon\nflags\t\t: fpu vmx hypervisor\n";

    #[test]
    fn reads_count_model_and_flags() {
        let info = parse_cpuinfo(INTEL);
        assert_eq!(info.count, 2);
        assert_eq!(info.model.as_deref(), Some("Xeon"));
        assert_eq!(info.extension, Some("vmx"));
        assert!(info.hypervisor);
    }

    #[test]
    fn a_flag_must_match_whole() {
        let info = parse_cpuinfo("processor: 0\nflags: svm_lock avmx\nvmx flags: vnmi\n");
        assert_eq!(info.extension, None);
    }

    #[test]
    fn no_flag_warns_and_leaves_the_decision_to_the_probe() {
        let checks = checks(&CpuInfo {
            count: 4,
            ..CpuInfo::default()
        });
        assert_eq!(checks[0].status, Status::Warn);
        assert_eq!(checks[1].status, Status::Ok);
    }

    #[test]
    fn smt_states() {
        assert_eq!(smt(Some("1\n".into())).status, Status::Warn);
        assert_eq!(smt(Some("0\n".into())).status, Status::Ok);
        assert_eq!(smt(None).status, Status::Ok);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in any::<String>()) {
            let _ = parse_cpuinfo(&text);
        }
    }
}
