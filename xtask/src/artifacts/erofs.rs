//! Packs a folder into a read-only erofs image, the same bytes each time.
//!
//! Uncompressed: with lz4 the image halves, but boot until the agent answers takes twice as long.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::SOURCE_DATE_EPOCH;
use crate::progress::Task;

/// The file system's identity. The same for all: nothing mounts these by UUID.
const UUID: &str = "5a6d0b1e-0000-4000-8000-000000000001";

/// Whom the files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Whom they belong to in the folder.
    AsIs,
    /// Root, whoever packs.
    Root,
}

/// Packs `tree` into the file `image`.
///
/// # Errors
/// When `mkfs.erofs` is missing or fails.
pub fn pack(task: &Task, log: &Path, tree: &Path, image: &Path, owners: Owners) -> Result<()> {
    task.message("packing");
    let mut mkfs = Command::new("mkfs.erofs");
    // No extended attributes: none of the packages has file capabilities, and a stray host
    // attribute (SELinux label) would change the bytes.
    mkfs.args([
        "--quiet",
        "-x-1",
        "-U",
        UUID,
        &format!("-T{SOURCE_DATE_EPOCH}"),
    ]);
    if owners == Owners::Root {
        mkfs.arg("--all-root");
    }
    mkfs.arg(image).arg(tree);
    task.run(&mut mkfs, log)
}
