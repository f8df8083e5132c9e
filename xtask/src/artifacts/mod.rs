//! What a sandbox is made of, each built once per set of inputs and then taken from the cache.
//!
//! ```text
//! kernel            guest/kernel + Linux source        → vmlinux, config, System.map, build.log
//! images/<name>     guest/images/<name> (+ its parent) → rootfs.erofs, template.json, packages.txt (tree.tar)
//! templates         all images                         → <name> → images/<name>/<hash>  (links)
//! overlay           -                                  → overlay.ext4
//! agent             the guest-agent crate              → agent.erofs, guest-agent
//! ```
//!
//! Two builds from the same inputs give the same bytes. Each function returns the artefact's folder.

mod agent;
mod debian;
mod erofs;
mod image;
mod kernel;
mod overlay;
mod python;
mod recipe;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

pub use self::agent::agent;
pub use self::image::templates;
pub use self::kernel::kernel;
pub use self::overlay::overlay;

use crate::cache::Ctx;

/// The one moment that everything built claims to be from: 2025-01-01T00:00:00Z. Not zero, because
/// some programs take a time of zero for "unset".
const SOURCE_DATE_EPOCH: u64 = 1_735_689_600;

/// Where the build log of the artefact `name` is written while it is made.
fn fresh_log(ctx: &Ctx, name: &str) -> Result<PathBuf> {
    let log = ctx
        .cache
        .dir("logs")?
        .join(format!("{}.log", name.replace('/', "-")));
    std::fs::write(&log, "").with_context(|| format!("could not write {}", log.display()))?;
    Ok(log)
}

/// Building file systems needs root: files must belong to whom they will belong in the guest.
fn need_root(what: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata("/proc/self")
        .context("could not read /proc/self")?
        .uid();
    ensure!(
        uid == 0,
        "{what} must be made as root, to give its files their owners: use sudo"
    );
    Ok(())
}

/// Bytes as MiB, for a person.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
