//! The agent's disk: the kernel's root file system, with the guest agent as `/init`.
//!
//! The agent is linked statically, so the disk needs nothing else but mount points.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{erofs, fresh_log};
use crate::cache::{Ctx, Key, remove_tree};
use crate::cargo;

/// Raised when the way of packing changes what comes out.
const PACKER: &str = "1";

/// glibc's target: static with `crt-static`, no other target needs to be installed.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Empty folders on the disk: kernel file systems, the disks' mount points, and the root-to-be.
const FOLDERS: [&str; 8] = [
    "base", "dev", "newroot", "overlay", "proc", "run", "sys", "tmp",
];

/// The folder with `agent.erofs` and the `guest-agent` binary that is in it.
///
/// Cargo decides whether the agent must be compiled; the artefact is keyed by the binary.
///
/// # Errors
/// When the agent doesn't compile, is not static, or can't be packed.
pub fn agent(ctx: &Ctx) -> Result<PathBuf> {
    let binary = compile(ctx)?;
    let key = Key::new("agent").text("packer", PACKER).file(&binary)?;
    ctx.cache.artifact(&key, |out| pack(ctx, &binary, out))
}

fn compile(ctx: &Ctx) -> Result<PathBuf> {
    let task = ctx.progress.task("guest agent");
    let log = fresh_log(ctx, "agent")?;
    // A target folder of its own: other flags would make cargo rebuild the whole workspace.
    let target = cargo::target(ctx, "agent")?;
    let mut cargo = cargo::cargo(ctx);
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "guest-agent",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", rustflags())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    task.run(&mut cargo, &log)?;
    let binary = target.join(TARGET).join("release/guest-agent");
    let image =
        fs::read(&binary).with_context(|| format!("could not read {}", binary.display()))?;
    ensure!(
        is_static(&image),
        "{} needs a dynamic loader, which the guest's first disk lacks",
        binary.display()
    );
    task.done(&format!("{:.1} MiB", super::mib(image.len() as u64)));
    Ok(binary)
}

/// Static, and with no path of this machine in it, so that the same source gives the same binary.
///
/// Cargo names the workspace's own files relative to its root. The root stays out of the flags on purpose: they are
/// part of what cargo compares, and each clone would compile every dependency again.
fn rustflags() -> String {
    let mut flags = String::from("-C target-feature=+crt-static");
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    // A path with a space can't be said in RUSTFLAGS; it then stays in the binary.
    if let Some(path) = home.ok().filter(|p| !p.contains(char::is_whitespace)) {
        flags.push_str(&format!(" --remap-path-prefix={path}=/cargo"));
    }
    flags
}

/// Whether an ELF file asks for no program interpreter (no `PT_INTERP` program header).
///
/// Layout: <https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html>, 64-bit little-endian.
fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: [u8; 4] = 3_u32.to_le_bytes();
    let le = |offset: usize, len: usize| {
        let bytes = elf.get(offset..offset.checked_add(len)?)?;
        bytes
            .iter()
            .rev()
            .try_fold(0_usize, |n, b| n.checked_mul(256)?.checked_add((*b).into()))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(table), Some(size), Some(count)) = (le(32, 8), le(54, 2), le(56, 2)) else {
        return false;
    };
    (0..count).all(|i| {
        let start = table.saturating_add(i * size);
        start
            .checked_add(4)
            .and_then(|end| elf.get(start..end))
            .is_some_and(|t| t != PT_INTERP)
    })
}

fn pack(ctx: &Ctx, binary: &Path, out: &Path) -> Result<()> {
    let task = ctx.progress.task("agent disk");
    let log = fresh_log(ctx, "agent-disk")?;
    let root = out.join("root");
    fs::create_dir(&root)?;
    for name in FOLDERS {
        fs::create_dir(root.join(name))?;
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755))?;
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    let init = root.join("init");
    fs::copy(binary, &init)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let disk = out.join("agent.erofs");
    erofs::pack(&task, &log, &root, &disk, erofs::Owners::Root)?;
    fs::rename(&init, out.join("guest-agent"))?;
    remove_tree(&root)?;
    task.done(&format!(
        "agent.erofs {:.1} MiB",
        super::mib(fs::metadata(disk)?.len())
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header with one program header of type `kind`.
    fn elf(kind: u32) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64..68].copy_from_slice(&kind.to_le_bytes());
        elf
    }

    #[test]
    fn an_interpreter_is_seen() {
        assert!(is_static(&elf(1)));
        assert!(!is_static(&elf(3)));
    }

    #[test]
    fn what_is_no_elf_is_not_static() {
        assert!(!is_static(b"#!/bin/sh"));
        assert!(!is_static(&elf(1)[..40]));
        let mut lying = elf(1);
        lying[32..40].fill(0xff);
        assert!(!is_static(&lying));
    }

    #[test]
    fn this_very_test_is_dynamic() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&own));
    }
}
