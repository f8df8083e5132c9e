//! The system packages that building and testing need, each with its reason.
//!
//! A package counts as there when what we need of it is: a command on the path or a file. So a
//! tool that came another way is as good. What runs in the lab or in a sandbox is not listed:
//! it comes from the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::cache::Ctx;

/// Something that must be on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Debian's name of it.
    pub name: &'static str,
    /// How its presence shows.
    pub shows: Shows,
    /// What it is needed for.
    pub reason: &'static str,
}

/// How a package's presence shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// A program on the path (or in the sbin folders, which not everyone's path has).
    Command(&'static str),
    /// A file or folder.
    File(&'static str),
    /// A module that Debian's own Python finds.
    Python(&'static str),
}

const fn command(name: &'static str, program: &'static str, reason: &'static str) -> Package {
    Package {
        name,
        shows: Shows::Command(program),
        reason,
    }
}

const fn file(name: &'static str, path: &'static str, reason: &'static str) -> Package {
    Package {
        name,
        shows: Shows::File(path),
        reason,
    }
}

/// Everything, in the order of its use.
pub const PACKAGES: [Package; 26] = [
    command(
        "gcc",
        "gcc",
        "compiles the guest kernel and SQLite; links Rust programs",
    ),
    file(
        "libc6-dev",
        "/usr/include/stdlib.h",
        "C headers for the same",
    ),
    command("make", "make", "builds the guest kernel"),
    command("flex", "flex", "builds the kernel's configuration tools"),
    command("bison", "bison", "builds the kernel's configuration tools"),
    command("bc", "bc", "computes constants of the guest kernel"),
    command("binutils", "strip", "strips the guest kernel"),
    command("xz-utils", "xz", "unpacks the kernel source"),
    command("bzip2", "bzip2", "unpacks source archives"),
    file(
        "libelf-dev",
        "/usr/include/libelf.h",
        "objtool of the guest kernel reads ELF",
    ),
    file(
        "libssl-dev",
        "/usr/include/openssl/evp.h",
        "certificate tools of the guest kernel",
    ),
    file(
        "linux-source-6.12",
        "/usr/src/linux-source-6.12.tar.xz",
        "source of the guest kernel",
    ),
    command("clang", "clang", "compiles the eBPF network programs"),
    file(
        "libbpf-dev",
        "/usr/include/bpf/bpf_helpers.h",
        "headers of eBPF programs",
    ),
    file(
        "linux-libc-dev",
        "/usr/include/linux/bpf.h",
        "headers of eBPF programs",
    ),
    command("nftables", "nft", "the daemon's masquerade rule"),
    command("iproute2", "ip", "shows what networks a run left behind"),
    command(
        "mmdebstrap",
        "mmdebstrap",
        "makes the images from Debian packages",
    ),
    file(
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "checks the signatures of those packages",
    ),
    command(
        "erofs-utils",
        "mkfs.erofs",
        "packs images into read-only file systems",
    ),
    command("e2fsprogs", "mke2fs", "makes the sandboxes' writable disk"),
    command(
        "util-linux",
        "unshare",
        "keeps image building in namespaces of its own",
    ),
    Package {
        name: "python3-venv",
        shows: Shows::Python("ensurepip"),
        reason: "the Python SDK's environment, and wheels for images",
    },
    command("nodejs", "node", "runs npm"),
    command("npm", "npm", "fetches the JavaScript SDK"),
    command(
        "chromium",
        "chromium",
        "shows the pages of reports in tests",
    ),
];

impl Package {
    /// Whether it is there.
    #[must_use]
    pub fn present(&self) -> bool {
        match self.shows {
            Shows::Command(program) => on_path(program).is_some(),
            Shows::File(path) => Path::new(path).exists(),
            Shows::Python(module) => Command::new("/usr/bin/python3")
                .args(["-c", &format!("import venv, {module}")])
                .stderr(std::process::Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
        }
    }
}

/// Where a program is.
#[must_use]
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// What of [`PACKAGES`] is missing.
#[must_use]
pub fn missing() -> Vec<Package> {
    PACKAGES
        .into_iter()
        .filter(|package| !package.present())
        .collect()
}

/// Installs what is missing, with apt, after saying what and why.
///
/// # Errors
/// When something is missing and there is no apt, or we are not root, or apt fails, or it is
/// still missing afterwards.
pub fn ensure(ctx: &Ctx) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    ctx.progress.line("system packages missing here:");
    for package in &missing {
        ctx.progress
            .line(&format!("  {:24} {}", package.name, package.reason));
    }
    if on_path("apt-get").is_none() {
        bail!(
            "this system has no apt; install the equivalents of these Debian packages: {}",
            names.join(" ")
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "installing needs root. Run this, then try again:\n  \
             sudo apt-get update && sudo apt-get install --no-install-recommends {}",
            names.join(" ")
        );
    }
    let task = ctx.progress.task("system packages");
    let log = ctx.cache.dir("logs")?.join("packages.log");
    std::fs::write(&log, "")?;
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.arg("-q")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    // Another apt (a fresh cloud machine's own upgrade) may hold the lock for minutes.
    let wait = ["-o", "DPkg::Lock::Timeout=600"];
    task.run(apt(&["update"]).args(wait), &log)?;
    task.run(
        apt(&["install", "-y", "--no-install-recommends"])
            .args(wait)
            .args(&names),
        &log,
    )?;
    if let Some(package) = missing.iter().find(|package| !package.present()) {
        bail!(
            "apt installed {} but {:?} is still not there",
            package.name,
            package.shows
        );
    }
    task.done(&names.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_listed_once_with_a_reason() {
        let mut names: Vec<_> = PACKAGES.iter().map(|p| p.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PACKAGES.len());
        assert!(PACKAGES.iter().all(|p| p.reason.len() > 5));
    }

    #[test]
    fn presence_is_what_is_there() {
        assert!(command("coreutils", "sh", "").present());
        assert!(!command("nothing", "no-such-program-here", "").present());
        assert!(file("linux", "/proc/self/stat", "").present());
        assert!(!file("nothing", "/no/such/file", "").present());
    }
}
