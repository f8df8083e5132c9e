//! Where the files of a machine are.
//!
//! ```text
//!   <run-dir>/<id>/control.sock       control protocol of the microvm process
//!   <run-dir>/<id>/vsock.sock         host side of the guest's vsock
//!   <state-dir>/sandboxes/<id>/overlay.cow    writable disk, copy-on-write
//!   <state-dir>/sandboxes/<id>/serial.log     console of the guest, bounded by the process
//!   <state-dir>/sandboxes/<id>/microvm.log    log of the process, bounded by the daemon
//!   <state-dir>/templates/<template>/<key>/   snapshot of a warm template (see [`warm`](super::warm))
//!   <state-dir>/snapshots/<snapshot id>/      snapshot of a sandbox
//! ```
//!
//! An id consists of lower-case letters and digits only ([`SandboxId`]), so it cannot name anything outside.

use std::path::{Path, PathBuf};

use crate::ids::{SandboxId, SnapshotId};

/// Longest path of a Unix socket, without the terminating zero (unix(7): `sun_path` has 108 bytes).
pub const MAX_SOCKET_PATH: usize = 107;

/// Folders of all machines.
#[derive(Clone, Debug)]
pub struct Layout {
    run: PathBuf,
    disks: PathBuf,
    templates: PathBuf,
    snapshots: PathBuf,
}

/// Paths of one machine.
#[derive(Clone, Debug)]
pub struct MachinePaths {
    /// Folder of the sockets.
    pub run: PathBuf,
    /// Folder of the disk and the logs.
    pub state: PathBuf,
    /// Control socket.
    pub control: PathBuf,
    /// vsock socket.
    pub vsock: PathBuf,
    /// Copy-on-write file of the writable disk.
    pub overlay: PathBuf,
    /// Guest console.
    pub serial: PathBuf,
    /// Process log.
    pub log: PathBuf,
}

/// Why the folders cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The run folder's path is too long for the sockets in it.
    #[error(
        "The run folder {path} is too long a path: the sockets in it would have {length} bytes, and the kernel allows \
         {MAX_SOCKET_PATH}. Choose a shorter one with --run-dir."
    )]
    TooLong {
        /// The folder.
        path: PathBuf,
        /// Length of the longest socket path.
        length: usize,
    },
}

impl Layout {
    /// The layout under two folders.
    pub fn new(run_dir: &Path, state_dir: &Path) -> Result<Self, LayoutError> {
        let layout = Self {
            run: run_dir.to_owned(),
            disks: state_dir.join("sandboxes"),
            templates: state_dir.join("templates"),
            snapshots: state_dir.join("snapshots"),
        };
        // run-dir, '/', 21 characters of id, '/', "control.sock"
        let length = run_dir.as_os_str().len() + 1 + 21 + 1 + "control.sock".len();
        if length > MAX_SOCKET_PATH {
            return Err(LayoutError::TooLong {
                path: layout.run,
                length,
            });
        }
        Ok(layout)
    }

    /// Folder that holds one folder of sockets per machine.
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// Folder that holds one folder of snapshots per template.
    pub fn templates_dir(&self) -> &Path {
        &self.templates
    }

    /// Folder that holds one folder per snapshot of a sandbox.
    pub fn snapshots_dir(&self) -> &Path {
        &self.snapshots
    }

    /// Folder of a snapshot of a sandbox.
    pub fn snapshot(&self, id: &SnapshotId) -> PathBuf {
        self.snapshots.join(id.as_str())
    }

    /// The folder of a snapshot, and what a process that died left of it under the name that it has while it is written
    /// (`<id>.tmp-<process>`).
    pub fn folders_of(&self, id: &SnapshotId) -> Vec<PathBuf> {
        let unfinished = format!("{id}.tmp-");
        let mut folders = self.snapshots_present();
        folders.retain(|folder| {
            let name = folder.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name == id.as_str() || name.starts_with(&unfinished))
        });
        folders
    }

    /// Everything in the folder of snapshots, those that were being written too.
    pub fn snapshots_present(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.snapshots).into_iter().flatten();
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect()
    }

    /// The paths of one machine.
    pub fn of(&self, id: &SandboxId) -> MachinePaths {
        let run = self.run.join(id.as_str());
        let state = self.disks.join(id.as_str());
        MachinePaths {
            control: run.join("control.sock"),
            vsock: run.join("vsock.sock"),
            overlay: state.join("overlay.cow"),
            serial: state.join("serial.log"),
            log: state.join("microvm.log"),
            run,
            state,
        }
    }

    /// Ids that have a folder on either side.
    pub fn present(&self) -> std::collections::BTreeSet<SandboxId> {
        [&self.run, &self.disks]
            .into_iter()
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name();
                SandboxId::parse(name.to_str()?).filter(|id| id.as_str() == name)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Layout, LayoutError, SandboxId};

    #[test]
    fn finds_the_folders_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("state")).unwrap();
        assert!(layout.present().is_empty());
        let id = SandboxId::parse("iabc").unwrap();
        std::fs::create_dir_all(layout.of(&id).run).unwrap();
        let other = layout.of(&SandboxId::parse("idef").unwrap()).state;
        std::fs::create_dir_all(&other).unwrap();
        std::fs::create_dir_all(other.with_file_name("not-an-id")).unwrap();
        let names: Vec<_> = layout.present().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["iabc", "idef"]);
    }

    #[test]
    fn a_path_too_long_for_sockets_is_refused() {
        let long = format!("/{}", "x".repeat(80));
        let result = Layout::new(long.as_ref(), "/state".as_ref());
        assert!(matches!(
            result,
            Err(LayoutError::TooLong { length: 116, .. })
        ));
    }
}
