//! Everything that a running daemon is made of, built or taken from the cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::artifacts;
use crate::cache::Ctx;
use crate::cargo;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The guest's kernel, an ELF file.
    pub kernel: PathBuf,
    /// The guest agent's disk.
    pub agent_disk: PathBuf,
    /// What each sandbox's writable disk starts as.
    pub overlay: PathBuf,
    /// Folder of template folders.
    pub templates: PathBuf,
    /// The daemon.
    pub sandboxd: PathBuf,
    /// The process of one microVM.
    pub microvm: PathBuf,
}

impl Parts {
    /// All parts, built when missing or out of date.
    ///
    /// # Errors
    /// When one can't be built.
    pub fn get(ctx: &Ctx) -> Result<Self> {
        let programs = programs(ctx)?;
        Ok(Self {
            agent_disk: artifacts::agent(ctx)?.join("agent.erofs"),
            kernel: kernel(ctx)?,
            overlay: artifacts::overlay(ctx)?.join("overlay.ext4"),
            templates: artifacts::templates(ctx)?,
            sandboxd: existing(programs.join("sandboxd"))?,
            microvm: existing(programs.join("microvm"))?,
        })
    }

    /// Makes those that cargo compiles.
    ///
    /// # Errors
    /// When one can't be built.
    pub fn compiled(ctx: &Ctx) -> Result<()> {
        programs(ctx)?;
        artifacts::agent(ctx)?;
        Ok(())
    }

    /// Makes those that cargo has no hand in.
    ///
    /// # Errors
    /// When one can't be built.
    pub fn materials(ctx: &Ctx) -> Result<()> {
        kernel(ctx)?;
        artifacts::overlay(ctx)?;
        artifacts::templates(ctx)?;
        Ok(())
    }
}

/// The guest's kernel: the one that `SANDBOXD_VMLINUX` names, for trying another, else ours.
fn kernel(ctx: &Ctx) -> Result<PathBuf> {
    match std::env::var_os("SANDBOXD_VMLINUX") {
        Some(path) => std::fs::canonicalize(&path)
            .with_context(|| format!("SANDBOXD_VMLINUX names no file: {}", path.display())),
        None => Ok(artifacts::kernel(ctx)?.join("vmlinux")),
    }
}

/// Compiles the daemon and the VMM; cargo knows what is out of date.
fn programs(ctx: &Ctx) -> Result<PathBuf> {
    let task = ctx.progress.task("daemon and VMM");
    let log = ctx.cache.dir("logs")?.join("programs.log");
    std::fs::write(&log, "")?;
    let target = cargo::target(ctx, "programs")?;
    task.run(
        cargo::cargo(ctx)
            .args([
                "build",
                "--release",
                "--locked",
                "--package",
                "sandboxd",
                "--package",
                "vmm",
            ])
            .args(["--bins", "--target-dir"])
            .arg(&target),
        &log,
    )?;
    task.done("");
    Ok(target.join("release"))
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    ensure!(is_executable(&path), "cargo built no {}", path.display());
    path.canonicalize()
        .context("a program that was just there is gone")
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
