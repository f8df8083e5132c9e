//! Snapshots of warm templates: what every sandbox of a template begins from.
//!
//! ```text
//!   boot ──► configure (as nobody's) ──► warm_up ──► pause ──► snapshot ──► <state-dir>/templates/<template>/<key>/
//!                                                                                          │
//!   create:  restore (memory shared copy-on-write, own disk layer) ──► configure ◄─────────┘
//! ```
//!
//! The key names everything that a snapshot depends on: the template's build, kernel, agent, VMM, sizes, and whether
//! there is a network device. A change of any of them makes another key, so a snapshot never meets programs or disks
//! that it was not taken with; the folders of other keys are removed. Whether the host's processor still fits is
//! looked at by the `microvm` process itself.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use sha2::{Digest, Sha256};

use super::microvm::MicrovmConfig;
use crate::ids::IdError;
use crate::templates::Template;

/// Why a template has no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// A file that the snapshot depends on cannot be looked at.
    #[error("{path} cannot be looked at: {error}.")]
    Input {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The machine to warm has no id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The folder cannot be made or cleared.
    #[error("The folder {path} cannot be used: {error}.")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The snapshots that can be used.
#[derive(Debug, Default)]
pub struct WarmTemplates {
    ready: RwLock<HashMap<String, PathBuf>>,
}

impl WarmTemplates {
    /// The snapshot of a template.
    pub fn of(&self, template: &Template) -> Option<PathBuf> {
        let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
        ready.get(&template.id).cloned()
    }

    /// From now on sandboxes of the template begin from `snapshot`.
    pub fn add(&self, template: &Template, snapshot: PathBuf) {
        let mut ready = self.ready.write().unwrap_or_else(PoisonError::into_inner);
        ready.insert(template.id.clone(), snapshot);
    }

    /// Sandboxes of the template boot again, as its snapshot turned out to be no good.
    pub fn remove(&self, template: &Template) {
        let mut ready = self.ready.write().unwrap_or_else(PoisonError::into_inner);
        ready.remove(&template.id);
    }
}

/// Name of the folder for a template's snapshot: 24 hexadecimal digits.
///
/// # Errors
/// [`WarmError::Input`] when a file is missing.
pub fn key(
    config: &MicrovmConfig,
    template: &Template,
    has_network: bool,
) -> Result<String, WarmError> {
    let mut hash = Sha256::new();
    let mut say = |label: &str, value: &str| {
        hash.update(format!("{label}\0{}\0{value}\0", value.len()));
    };
    for (label, path) in [
        ("vmm", &config.program),
        ("kernel", &config.kernel),
        ("agent", &config.agent_disk),
        ("overlay", &config.overlay_base),
        ("rootfs", &template.rootfs),
    ] {
        let meta = std::fs::metadata(path).map_err(|error| WarmError::Input {
            path: path.clone(),
            error,
        })?;
        let seen = (meta.len(), meta.mtime(), meta.mtime_nsec());
        say(label, &format!("{} {seen:?}", path.display()));
    }
    let Template {
        vcpus,
        memory_mib,
        disk_mib,
        user,
        workdir,
        env,
        code_interpreter,
        build_id,
        ..
    } = template;
    say("build", &build_id.to_string());
    say("size", &format!("{vcpus} {memory_mib} {disk_mib}"));
    say(
        "session",
        &format!("{user} {workdir} {code_interpreter} {env:?}"),
    );
    say("network", &has_network.to_string());
    let digest = hash.finalize();
    let mut name = String::new();
    for byte in &digest[..12] {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    Ok(name)
}

/// Makes the folder of a template, and removes what it holds besides `key`.
///
/// # Errors
/// [`WarmError::Folder`].
pub fn clear_others(folder: &Path, key: &str) -> Result<(), WarmError> {
    let failed = |error| WarmError::Folder {
        path: folder.to_owned(),
        error,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != key {
            std::fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::templates::tests::template;
    use agent_protocol::control::Network;

    fn config(dir: &Path) -> MicrovmConfig {
        let file = |name: &str| {
            std::fs::write(dir.join(name), name).unwrap();
            dir.join(name)
        };
        MicrovmConfig {
            program: file("microvm"),
            kernel: file("vmlinux"),
            agent_disk: file("agent"),
            overlay_base: file("overlay"),
            start_timeout: Duration::from_secs(1),
            network: Network::standard(Vec::new()),
        }
    }

    #[test]
    fn whatever_a_snapshot_depends_on_changes_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let base = Template {
            rootfs: config.kernel.clone(),
            ..template("base", 512)
        };
        let first = key(&config, &base, true).unwrap();
        assert_eq!(first, key(&config, &base, true).unwrap());
        assert_eq!(first.len(), 24);
        let mut keys = vec![first, key(&config, &base, false).unwrap()];
        let larger = Template {
            memory_mib: 1024,
            ..base.clone()
        };
        keys.push(key(&config, &larger, true).unwrap());
        std::fs::write(&config.agent_disk, "another agent").unwrap();
        keys.push(key(&config, &base, true).unwrap());
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 4);
        std::fs::remove_file(&config.program).unwrap();
        let error = key(&config, &base, true).unwrap_err();
        assert!(error.to_string().contains("microvm"), "{error}");
    }

    #[test]
    fn only_the_present_key_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("base");
        for name in ["old", "new"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        clear_others(&folder, "new").unwrap();
        assert!(folder.join("new").exists() && !folder.join("old").exists());
    }
}
