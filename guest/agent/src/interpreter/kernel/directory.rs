//! A kernel's own directory: connection file and sockets.
//!
//! ```text
//! <runtime>/<12 hex digits>/          0700, the kernel's user's
//!   connection.json                   0600, with the key
//!   k-1 k-2 k-3 k-4 k-5               shell, iopub, stdin, control, heartbeat; made by the kernel
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::json;
use uuid::Uuid;

use super::KernelConfig;
use crate::interpreter::error::KernelError;
use crate::interpreter::jupyter::message::Key;

/// "Port" of the socket for requests.
pub const SHELL: u8 = 1;
/// "Port" of the socket that the kernel publishes on.
pub const IOPUB: u8 = 2;
const STDIN: u8 = 3;
/// "Port" of the socket for requests that overtake a running cell.
pub const CONTROL: u8 = 4;
const HEARTBEAT: u8 = 5;

/// A kernel's own directory, with its connection file and its sockets. Removed when it is dropped.
#[derive(Debug)]
pub struct KernelDirectory(PathBuf);

impl KernelDirectory {
    /// Makes it for one start of a kernel. Blocks.
    ///
    /// # Errors
    /// [`KernelError::Prepare`].
    pub fn make(config: &KernelConfig, key: &Key) -> Result<Self, KernelError> {
        let (uid, gid) = (Some(config.user.uid), Some(config.user.gid));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&config.runtime_dir)
            .map_err(|error| prepare(&config.runtime_dir, error))?;
        let name: String = Uuid::new_v4()
            .simple()
            .to_string()
            .chars()
            .take(12)
            .collect();
        let path = config.runtime_dir.join(name);
        let failed = |error| prepare(&path, error);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(failed)?;
        let directory = Self(path.clone());
        let connection = json!({
            "transport": "ipc",
            "ip": path.join("k"),
            "shell_port": SHELL, "iopub_port": IOPUB, "stdin_port": STDIN,
            "control_port": CONTROL, "hb_port": HEARTBEAT,
            "signature_scheme": "hmac-sha256",
            "key": key.expose(),
            "kernel_name": config.spec.name,
        });
        let file = directory.connection_file();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(&file)
            .and_then(|mut file| file.write_all(connection.to_string().as_bytes()))
            .map_err(failed)?;
        chown(&file, uid, gid).map_err(failed)?;
        chown(&path, uid, gid).map_err(failed)?;
        Ok(directory)
    }

    /// What the kernel is started with.
    pub fn connection_file(&self) -> PathBuf {
        self.0.join("connection.json")
    }

    /// Jupyter's name for an ipc socket: the "ip", a dash, the "port".
    pub fn socket(&self, port: u8) -> PathBuf {
        self.0.join(format!("k-{port}"))
    }
}

impl Drop for KernelDirectory {
    fn drop(&mut self) {
        // It is on a file system that does not outlive the machine.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn prepare(path: &Path, source: io::Error) -> KernelError {
    KernelError::Prepare {
        path: path.to_owned(),
        source,
    }
}
