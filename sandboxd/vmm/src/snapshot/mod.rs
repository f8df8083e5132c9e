//! Snapshots: a folder that holds a machine as it stood at one instant.
//!
//! ```text
//!   <dir>/manifest.json       what this is, for which host, made of what; written last       see `manifest`
//!         state               virtual CPUs, interrupt controllers, clock, devices; the extents of `memory.*`   `state`
//!                             (this and `memory.*` are missing where disks stand alone)
//!         memory.0            guest memory by place, sparse: a full snapshot                 `extents`, `layers`
//!         memory.1 …          the same for a diff: only pages that changed since the layer below
//!         disk-<id>.0 …       frozen copy-on-write layers of a writable disk, the oldest first
//!         working-set         advice, may be added later: pages that are touched first            `working_set`
//! ```
//!
//! **A folder is whole.** Layers that an earlier snapshot wrote are linked into the folder (hard links; copied where the file
//! systems differ), so a snapshot is opened without its ancestors, and deleting one never breaks another: the file system counts
//! who still needs a layer.
//!
//! **Commit is a rename.** Everything is written to `<dir>.tmp-<pid>`, synced when asked for, and renamed. A folder under its
//! own name is complete; `.tmp-` folders of processes that are gone may be deleted. Nothing is ever changed in place: files are
//! read-only from then on, and machines map them privately.
//!
//! **Who is trusted.** Whoever can write to the folder; the process needs no more than to read it. Files may still be damaged,
//! cut short, or from another host or version: each is told apart and refused with a sentence, lengths are checked before they
//! are believed, and nothing is mapped beyond a file's end.
//!
//! States of the process around it (see [`crate::control`]):
//!
//! ```text
//!   idle ──prepare──► prepared ──┐
//!     └──────────────────────────┴──restore──► paused or running ◄──rollback── running, paused
//!                                               paused ──snapshot──► paused
//! ```

pub mod extents;
mod folder;
mod kept;
pub mod layers;
pub mod manifest;
pub mod stages;
pub mod state;
pub mod working_set;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use self::extents::{Extents, ExtentsError};
pub use self::folder::{Folder, keep, link_or_copy};
pub use self::kept::Kept;
pub use self::manifest::{DiskLayers, FileEntry, Kind, Manifest, ManifestError};
pub use self::stages::Stages;
pub use self::state::{SavedState, StateError};
pub use self::working_set::WorkingSet;
use crate::arch::x86_64::cpuid::CpuIdentity;

/// Most layers of memory: a full one and diffs on top. One more snapshot is written as a full one.
pub const MAX_MEMORY_LAYERS: usize = 16;
/// Largest manifest, in bytes.
const MAX_MANIFEST: u64 = 256 << 10;
/// Largest state file, in bytes.
const MAX_STATE: u64 = 64 << 20;

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The host failed.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no snapshot.
    #[error("{0} holds no snapshot: there is no manifest.json")]
    Missing(PathBuf),
    /// Something is there already.
    #[error("{0} exists already; a snapshot is never overwritten")]
    Exists(PathBuf),
    /// A file is larger than any of its kind.
    #[error("{path} has {bytes} bytes, more than the {most} of any file of its kind")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Largest size.
        most: u64,
    },
    /// A file is not as long as the manifest says.
    #[error("{path} is damaged or cut short: it has {got} bytes, but the manifest says {want}")]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes that the manifest says.
        want: u64,
        /// Bytes in the file.
        got: u64,
    },
    /// A checksum does not match.
    #[error("{0} is damaged: its checksum does not match")]
    Checksum(PathBuf),
    /// The manifest is refused.
    #[error("the manifest in {dir} is refused: {error}", dir = dir.display())]
    Manifest {
        /// The folder.
        dir: PathBuf,
        /// Why.
        error: ManifestError,
    },
    /// The state file is refused.
    #[error("the state in {dir} is refused: {error}", dir = dir.display())]
    State {
        /// The folder.
        dir: PathBuf,
        /// Why.
        error: StateError,
    },
    /// The snapshot was taken on another kind of host.
    #[error("the snapshot was taken on another processor: {saved:?} there, {here:?} here")]
    OtherCpu {
        /// The snapshot's.
        saved: CpuIdentity,
        /// This host's.
        here: CpuIdentity,
    },
    /// It has no memory to go on from.
    #[error(
        "the snapshot in {0} holds disks alone; a machine boots on it, and cannot go on from it"
    )]
    DisksAlone(PathBuf),
    /// Manifest and state do not belong together.
    #[error("the files of the snapshot contradict each other: {0}")]
    Contradiction(&'static str),
}

impl SnapshotError {
    /// A host failure at `path`.
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}

/// A snapshot that has been opened and checked, as far as can be without reading all of its memory.
#[derive(Debug)]
pub struct Opened {
    /// Where it is.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its state.
    pub state: SavedState,
    /// Its memory layers, the oldest first.
    pub memory: Vec<File>,
    /// The pages to bring in at once, when that is known.
    pub working_set: Option<WorkingSet>,
}

impl Opened {
    /// Opens the snapshot in `dir`.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn open(dir: &Path) -> Result<Self, SnapshotError> {
        let manifest = read_manifest(dir)?;
        if manifest.kind == Kind::Disk {
            return Err(SnapshotError::DisksAlone(dir.to_owned()));
        }
        let path = dir.join(&manifest.state.name);
        let bytes = read_bounded(&path, MAX_STATE)?;
        check_size(&path, manifest.state.bytes, bytes.len() as u64)?;
        let state = SavedState::decode(&bytes).map_err(|error| SnapshotError::State {
            dir: dir.to_owned(),
            error,
        })?;
        if state.vcpus.len() != usize::from(manifest.machine.vcpus) {
            return Err(SnapshotError::Contradiction("the number of virtual CPUs"));
        }
        let size = manifest.machine.memory_bytes();
        if !state.extents.fit(size, manifest.memory.len()) {
            return Err(SnapshotError::Contradiction("the extents of guest memory"));
        }
        let mut memory = Vec::with_capacity(manifest.memory.len());
        for entry in &manifest.memory {
            let path = dir.join(&entry.name);
            let file = open(&path)?;
            let got = file.metadata().map_err(SnapshotError::file(&path))?.len();
            // Nothing may be mapped beyond the end of a file: touching it would end the process.
            check_size(&path, entry.bytes, got)?;
            check_size(&path, size, got)?;
            memory.push(file);
        }
        for disk in &manifest.disks {
            check_layers(dir, disk)?;
        }
        let working_set = WorkingSet::load(dir, &manifest.id, size);
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            state,
            memory,
            working_set,
        })
    }

    /// Refuses a snapshot of another kind of host.
    ///
    /// # Errors
    /// When the processors differ.
    pub fn check_cpu(&self, here: &CpuIdentity) -> Result<(), SnapshotError> {
        match self.manifest.cpu == *here {
            true => Ok(()),
            false => Err(SnapshotError::OtherCpu {
                saved: self.manifest.cpu.clone(),
                here: here.clone(),
            }),
        }
    }

    /// Reads the memory layers against their checksums; those written without one pass. It takes as long as reading them.
    ///
    /// # Errors
    /// When one does not match.
    pub fn verify_memory(&self) -> Result<(), SnapshotError> {
        for (index, (entry, file)) in self.manifest.memory.iter().zip(&self.memory).enumerate() {
            let path = self.dir.join(&entry.name);
            let Some(want) = entry.crc32 else { continue };
            let got = layers::checksum(file).map_err(SnapshotError::file(&path))?;
            if got != want {
                return Err(SnapshotError::Checksum(path));
            }
            tracing::debug!(index, "a memory layer is whole");
        }
        Ok(())
    }

    /// Paths of the frozen layers of each disk, in the order of the machine's disks.
    pub fn disk_layers(&self) -> Vec<Vec<PathBuf>> {
        let layers_of = |id: &str| {
            let disk = self.manifest.disks.iter().find(|disk| disk.id == id);
            disk.map_or_else(Vec::new, |disk| {
                let names = disk.layers.iter().map(|entry| self.dir.join(&entry.name));
                names.collect()
            })
        };
        let disks = &self.manifest.machine.disks;
        disks.iter().map(|disk| layers_of(&disk.id)).collect()
    }
}

/// Paths of the frozen layers of one disk in the snapshot in `dir`, the oldest first. The snapshot needs no memory for this.
///
/// # Errors
/// When the manifest is refused, or a layer is not as long as it says.
pub fn layers_of_disk(dir: &Path, disk: &str) -> Result<Vec<PathBuf>, SnapshotError> {
    let manifest = read_manifest(dir)?;
    match manifest.disks.iter().find(|known| known.id == disk) {
        Some(disk) => check_layers(dir, disk),
        None => Ok(Vec::new()),
    }
}

fn read_manifest(dir: &Path) -> Result<Manifest, SnapshotError> {
    let path = dir.join(manifest::NAME);
    let text = read_bounded(&path, MAX_MANIFEST).map_err(|error| match error {
        SnapshotError::File { ref error, .. } if error.kind() == io::ErrorKind::NotFound => {
            SnapshotError::Missing(dir.to_owned())
        }
        other => other,
    })?;
    Manifest::decode(&text).map_err(|error| SnapshotError::Manifest {
        dir: dir.to_owned(),
        error,
    })
}

/// Looks whether the layers of a disk are as long as the manifest says; gives their paths.
fn check_layers(dir: &Path, disk: &DiskLayers) -> Result<Vec<PathBuf>, SnapshotError> {
    let paths = disk.layers.iter().map(|entry| {
        let path = dir.join(&entry.name);
        let metadata = std::fs::metadata(&path).map_err(SnapshotError::file(&path))?;
        check_size(&path, entry.bytes, metadata.len())?;
        Ok(path)
    });
    paths.collect()
}

fn check_size(path: &Path, want: u64, got: u64) -> Result<(), SnapshotError> {
    match want == got {
        true => Ok(()),
        false => Err(SnapshotError::Size {
            path: path.to_owned(),
            want,
            got,
        }),
    }
}

fn open(path: &Path) -> Result<File, SnapshotError> {
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(SnapshotError::file(path))
}

fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, SnapshotError> {
    let file = open(path)?;
    let bytes = file.metadata().map_err(SnapshotError::file(path))?.len();
    if bytes > most {
        return Err(SnapshotError::TooLarge {
            path: path.to_owned(),
            bytes,
            most,
        });
    }
    let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    file.take(most)
        .read_to_end(&mut text)
        .map_err(SnapshotError::file(path))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
