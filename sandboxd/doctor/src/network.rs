//! What sandbox networks stand on: TAP interfaces, eBPF at the traffic-control hook, BTF, nftables.
//!
//! Each is tried, not looked up: a TAP is created, a program is loaded, a ring buffer is made.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::check::Check;
use crate::sys;

const NO_NETWORK: &str = "or start the daemon with --no-network";

/// The report's lines on networking.
#[must_use]
pub fn checks() -> Vec<Check> {
    vec![
        tap(sys::create_tap()),
        ebpf(sys::load_trivial_program(), sys::create_ring_buffer()),
        btf(Path::new("/sys/kernel/btf/vmlinux").exists()),
        nftables(list_tables()),
    ]
}

fn tap(outcome: io::Result<String>) -> Check {
    match outcome {
        Ok(name) => Check::ok(
            "tap",
            format!("{name} created and removed"),
            "Each sandbox's network card is a TAP interface",
        ),
        Err(error) => Check::fail(
            "tap",
            error.to_string(),
            "Each sandbox's network card is a TAP interface",
            match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => {
                    format!("Run as root or with CAP_NET_ADMIN, {NO_NETWORK}")
                }
                _ => format!("modprobe tun (CONFIG_TUN), {NO_NETWORK}"),
            },
        ),
    }
}

fn ebpf(program: io::Result<()>, ring: io::Result<()>) -> Check {
    let reason = "Egress policy is enforced by an eBPF program on each sandbox's interface";
    let (what, error) = match (program, ring) {
        (Ok(()), Ok(())) => {
            return Check::ok("ebpf", "a program and a ring buffer were loaded", reason);
        }
        (Err(error), _) => ("program refused", error),
        (Ok(()), Err(error)) => ("ring buffer refused", error),
    };
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            format!("Run as root or with CAP_BPF and CAP_NET_ADMIN, {NO_NETWORK}")
        }
        _ => format!(
            "Use Linux 5.8 or newer with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF, {NO_NETWORK}"
        ),
    };
    Check::fail("ebpf", format!("{what}: {error}"), reason, remedy)
}

fn btf(present: bool) -> Check {
    if present {
        Check::ok(
            "btf",
            "/sys/kernel/btf/vmlinux",
            "Kernel types are known to eBPF loaders",
        )
    } else {
        Check::warn(
            "btf",
            "/sys/kernel/btf/vmlinux is missing",
            "Programs still load, but their errors and maps are harder to inspect",
            "Use a kernel with CONFIG_DEBUG_INFO_BTF=y",
        )
    }
}

fn list_tables() -> io::Result<bool> {
    Command::new("nft")
        .args(["list", "tables"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(|status| status.success())
}

fn nftables(outcome: io::Result<bool>) -> Check {
    let reason = "Address translation and host protection of sandboxes are nftables rules";
    match outcome {
        Ok(true) => Check::ok("nftables", "nft lists tables", reason),
        Ok(false) => Check::fail(
            "nftables",
            "nft cannot list tables",
            reason,
            format!("Run as root with CONFIG_NF_TABLES (modprobe nf_tables), {NO_NETWORK}"),
        ),
        Err(error) => Check::fail(
            "nftables",
            format!("nft does not start: {error}"),
            reason,
            format!("apt-get install nftables, {NO_NETWORK}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    fn denied<T>() -> io::Result<T> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }

    #[test]
    fn refusals_fail_with_a_remedy_that_fits_the_error() {
        assert!(tap(denied()).remedy.unwrap().contains("CAP_NET_ADMIN"));
        let missing = tap(Err(io::Error::from_raw_os_error(libc::ENOENT)));
        assert!(missing.remedy.unwrap().contains("modprobe tun"));
        assert!(ebpf(denied(), Ok(())).remedy.unwrap().contains("CAP_BPF"));
        let old = ebpf(Ok(()), Err(io::Error::from_raw_os_error(libc::EINVAL)));
        assert_eq!(old.status, Status::Fail);
        assert!(old.found.starts_with("ring buffer refused"));
        assert_eq!(nftables(Ok(false)).status, Status::Fail);
        assert_eq!(btf(false).status, Status::Warn);
    }

    #[test]
    fn a_created_tap_is_gone_afterwards() {
        match sys::create_tap() {
            Ok(name) => {
                assert!(name.starts_with("sbxdoc"), "{name}");
                assert!(
                    !Path::new("/sys/class/net").join(&name).exists(),
                    "{name} stayed"
                );
            }
            // Without the driver or the right to use it, the check must say so instead.
            Err(error) => assert_eq!(tap(Err(error)).status, Status::Fail),
        }
    }
}
