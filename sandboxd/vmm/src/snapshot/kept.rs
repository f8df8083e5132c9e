//! A snapshot that was opened for a restore to come.
//!
//! ```text
//!   Kept::open ──► waits ──► is_in(dir): manifest as it was? ── yes ─► the same snapshot
//!                                                            └─ no ──► another snapshot lies there now, or none
//! ```
//!
//! Only the manifest is read again. It names the snapshot and the sizes and checksums of its files, and files of a snapshot
//! are never changed in place, so a folder with the same manifest is the same snapshot.

use std::path::Path;

use super::{MAX_MANIFEST, Opened, SnapshotError, manifest, read_bounded};

/// An open snapshot and the manifest that it was opened by.
#[derive(Debug)]
pub struct Kept {
    opened: Opened,
    manifest: Vec<u8>,
}

impl Kept {
    /// Opens the snapshot in `dir`.
    ///
    /// # Errors
    /// See [`Opened::open`].
    pub fn open(dir: &Path) -> Result<Self, SnapshotError> {
        // Read first: a folder that is replaced in between will not look the same later.
        let manifest = read_manifest(dir);
        let opened = Opened::open(dir)?;
        Ok(Self {
            opened,
            manifest: manifest.unwrap_or_default(),
        })
    }

    /// The snapshot.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Whether it is the snapshot in `dir` still.
    pub fn is_in(&self, dir: &Path) -> bool {
        self.opened.dir == dir && read_manifest(dir).as_ref() == Some(&self.manifest)
    }

    /// The snapshot itself.
    pub fn into_opened(self) -> Opened {
        self.opened
    }
}

fn read_manifest(dir: &Path) -> Option<Vec<u8>> {
    read_bounded(&dir.join(manifest::NAME), MAX_MANIFEST).ok()
}
