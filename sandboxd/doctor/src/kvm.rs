//! `/dev/kvm`: is it there, may it be used, which API does it speak, what can it do?
//!
//! Source: Documentation/virt/kvm/api.rst. Passing here proves only that the interface answers;
//! whether guests run is the probe guest's business.

use std::fs;
use std::io;

use kvm_ioctls::{Cap, Kvm};

use crate::check::Check;
use crate::mode::Evidence;

/// The only API version there is since Linux 2.6.22; api.rst tells programs to refuse others.
const API_VERSION: i32 = 12;

/// A capability with what the VMM does with it.
struct Need {
    cap: Cap,
    name: &'static str,
    why: &'static str,
}

const fn need(cap: Cap, name: &'static str, why: &'static str) -> Need {
    Need { cap, name, why }
}

/// Without these the VMM does not start.
const REQUIRED: [Need; 11] = [
    need(
        Cap::UserMemory,
        "USER_MEMORY",
        "guest memory is mapped from the VMM",
    ),
    need(
        Cap::Irqchip,
        "IRQCHIP",
        "interrupt controllers in the kernel",
    ),
    need(
        Cap::SetTssAddr,
        "SET_TSS_ADDR",
        "real-mode entry of application processors",
    ),
    need(
        Cap::ExtCpuid,
        "EXT_CPUID",
        "CPU features are shown to the guest",
    ),
    need(
        Cap::MpState,
        "MP_STATE",
        "halted and waiting CPUs are saved",
    ),
    need(
        Cap::Irqfd,
        "IRQFD",
        "devices raise interrupts without an exit",
    ),
    need(
        Cap::Ioeventfd,
        "IOEVENTFD",
        "queue notifications do not stop the CPU",
    ),
    need(Cap::VcpuEvents, "VCPU_EVENTS", "pending events are saved"),
    need(Cap::Xsave, "XSAVE", "vector registers are saved"),
    need(Cap::Xcrs, "XCRS", "vector control registers are saved"),
    need(
        Cap::ImmediateExit,
        "IMMEDIATE_EXIT",
        "a CPU is stopped without a race",
    ),
];

/// Without these something is slower or less exact.
const WANTED: [Need; 5] = [
    need(
        Cap::TscDeadlineTimer,
        "TSC_DEADLINE_TIMER",
        "the guest's cheapest timer",
    ),
    need(
        Cap::AdjustClock,
        "ADJUST_CLOCK",
        "the guest clock continues after a restore",
    ),
    need(
        Cap::KvmclockCtrl,
        "KVMCLOCK_CTRL",
        "a paused guest reports no soft lock-up",
    ),
    need(
        Cap::GetTscKhz,
        "GET_TSC_KHZ",
        "the TSC rate is kept over a restore",
    ),
    need(
        Cap::ReadonlyMem,
        "READONLY_MEM",
        "firmware tables cannot be overwritten",
    ),
];

/// What came of opening the device.
pub struct Opened {
    /// The device, when it may be used and speaks the right API.
    pub kvm: Option<Kvm>,
    /// The report's lines so far.
    pub checks: Vec<Check>,
}

/// Opens the device and asks for its API and capabilities.
#[must_use]
pub fn open() -> Opened {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            let error = io::Error::from(error);
            return Opened {
                kvm: None,
                checks: vec![refused(&error)],
            };
        }
    };
    let mut checks = vec![Check::ok("kvm-device", "/dev/kvm opens", "The door to KVM")];
    let version = kvm.get_api_version();
    checks.push(api(version));
    checks.push(capabilities(|cap| kvm.check_extension(cap)));
    Opened {
        kvm: (version == API_VERSION).then_some(kvm),
        checks,
    }
}

fn refused(error: &io::Error) -> Check {
    let reason = "Every sandbox is a KVM virtual machine";
    match error.raw_os_error() {
        Some(libc::ENOENT) => Check::fail(
            "kvm-device",
            "/dev/kvm does not exist",
            reason,
            "modprobe kvm_intel or kvm_amd; where the CPU has no virtualization, use the lab host",
        ),
        Some(libc::EACCES | libc::EPERM) => Check::fail(
            "kvm-device",
            "/dev/kvm may not be opened by this user",
            reason,
            "Join the group that owns it (usermod -aG kvm $USER, then log in again) or run as root",
        ),
        _ => Check::fail(
            "kvm-device",
            format!("/dev/kvm does not open: {error}"),
            reason,
            "Look into dmesg for kvm; the module may be switched off in the firmware",
        ),
    }
}

fn api(version: i32) -> Check {
    if version == API_VERSION {
        Check::ok(
            "kvm-api",
            format!("version {version}"),
            "The API is stable since Linux 2.6.22",
        )
    } else {
        Check::fail(
            "kvm-api",
            format!("version {version}"),
            format!("The VMM is written to version {API_VERSION}"),
            "Use Linux 5.10 or newer",
        )
    }
}

fn capabilities(has: impl Fn(Cap) -> bool) -> Check {
    let describe = |needs: &[Need]| -> Vec<String> {
        needs
            .iter()
            .filter(|need| !has(need.cap))
            .map(|need| format!("KVM_CAP_{} ({})", need.name, need.why))
            .collect()
    };
    let (missing, lesser) = (describe(&REQUIRED), describe(&WANTED));
    let have = REQUIRED.len() + WANTED.len() - missing.len() - lesser.len();
    if !missing.is_empty() {
        return Check::fail(
            "kvm-capabilities",
            format!("missing: {}", missing.join(", ")),
            "The VMM does not start without them",
            "Use Linux 5.10 or newer, or the lab host",
        );
    }
    if !lesser.is_empty() {
        return Check::warn(
            "kvm-capabilities",
            format!("missing: {}", lesser.join(", ")),
            "Sandboxes run, but slower or less exact after a restore",
            "Use a newer kernel",
        );
    }
    let names: Vec<&str> = REQUIRED
        .iter()
        .chain(&WANTED)
        .map(|need| need.name)
        .collect();
    Check::ok("kvm-capabilities", format!("all {have}"), names.join(" "))
}

/// Collects what the virtualization mode is told from.
#[must_use]
pub fn evidence(kvm: Option<&Kvm>, extension: Option<&'static str>, hypervisor: bool) -> Evidence {
    let mut modules: Vec<String> = fs::read_dir("/sys/module")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name == "kvm" || name.starts_with("kvm_"))
        .collect();
    modules.sort();
    let nested_paging = ["kvm_amd/parameters/npt", "kvm_intel/parameters/ept"]
        .iter()
        .find_map(|path| fs::read_to_string(format!("/sys/module/{path}")).ok())
        .map(|text| matches!(text.trim(), "1" | "Y"));
    Evidence {
        extension,
        hypervisor,
        kvm_creates_vm: kvm.is_some_and(|kvm| kvm.create_vm().is_ok()),
        modules,
        nested_paging,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn each_refusal_has_its_own_remedy() {
        let remedy = |code| refused(&io::Error::from_raw_os_error(code)).remedy.unwrap();
        assert!(remedy(libc::ENOENT).contains("modprobe"));
        assert!(remedy(libc::EACCES).contains("usermod"));
        assert!(remedy(libc::EBUSY).contains("dmesg"));
    }

    #[test]
    fn another_api_version_is_refused() {
        assert_eq!(api(12).status, Status::Ok);
        assert_eq!(api(11).status, Status::Fail);
    }

    #[test]
    fn a_missing_capability_is_named_with_its_use() {
        let check = capabilities(|cap| cap != Cap::Irqfd);
        assert_eq!(check.status, Status::Fail);
        insta::assert_snapshot!(check.found, @"missing: KVM_CAP_IRQFD (devices raise interrupts without an exit)");
        assert_eq!(
            capabilities(|cap| cap != Cap::AdjustClock).status,
            Status::Warn
        );
        assert_eq!(capabilities(|_| true).status, Status::Ok);
    }
}
