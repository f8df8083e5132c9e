//! Cargo, as xtask runs it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::Ctx;

/// Names the workspace that built into a shared target folder last.
const STAMP: &str = ".workspace";

/// The cargo that runs us, in the workspace.
#[must_use]
pub fn cargo(ctx: &Ctx) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&ctx.workspace);
    // Cargo sets these for us; they would mislead build scripts of what it builds for us.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The target folder `name` in the cache, which all clones on this machine share for what they
/// have in common: the dependencies.
///
/// Cargo tells a stale file by its time and a member by its path *within* the workspace, so it
/// would take what another clone compiled for this one's. Members built by another are removed.
///
/// # Errors
/// When the folder can't be made or cleaned.
pub fn target(ctx: &Ctx, name: &str) -> Result<PathBuf> {
    let target = ctx.cache.dir(format!("target/{name}"))?;
    let stamp = target.join(STAMP);
    let own = ctx.workspace.as_os_str().as_encoded_bytes();
    if fs::read(&stamp).is_ok_and(|last| last == own) {
        return Ok(target);
    }
    let output = cargo(ctx)
        .args(["clean", "--quiet", "--workspace", "--target-dir"])
        .arg(&target)
        .output()
        .context("could not start cargo: is it installed?")?;
    ensure!(
        output.status.success(),
        "could not clean {}: {}",
        target.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    fs::write(&stamp, own).with_context(|| format!("could not write {}", stamp.display()))?;
    Ok(target)
}
