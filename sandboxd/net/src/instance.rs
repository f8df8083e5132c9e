//! Who we are, across restarts: the instance file.
//!
//! ```text
//!   <state-dir>/netguard.json   {"version":1,"boot":"…","id":"1a2b3c4d","forwarding_was_on":false}
//! ```
//!
//! The id names the nftables table and marks the TAPs, so that a daemon finds what a predecessor
//! with the same state directory left, and leaves alone what belongs to another. The file is
//! written once, before anything it speaks of exists, and removed last. It is locked while in use.
//! A file of an earlier boot speaks of nothing that still exists, so the instance begins anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use thiserror::Error;

const VERSION: u32 = 1;
const NAME: &str = "netguard.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// A file of ours is under a hundred bytes.
const MAX_LEN: u64 = 4096;

/// Why there is no instance.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// The file could not be read, written or locked.
    #[error("the instance file {path} cannot be used: {error}")]
    File {
        /// Where it is.
        path: PathBuf,
        /// What happened.
        #[source]
        error: io::Error,
    },
    /// Another process holds it.
    #[error(
        "another daemon uses the state directory of {path}; stop it or pass another --state-dir"
    )]
    InUse {
        /// Where it is.
        path: PathBuf,
    },
    /// It is not one of ours.
    #[error(
        "the instance file {path} is damaged or of another version; when no sandbox runs, remove it and the `{prefix}*` interfaces"
    )]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What TAP names begin with.
        prefix: String,
    },
}

/// Contents of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    boot: String,
    id: String,
    forwarding_was_on: bool,
}

/// The instance, locked for this process.
#[derive(Debug)]
pub struct Instance {
    path: PathBuf,
    record: Record,
    _lock: File,
}

impl Instance {
    /// Takes up the instance of the directory, or begins one.
    ///
    /// # Errors
    /// [`InstanceError`].
    pub fn open(
        dir: &Path,
        prefix: &str,
        forwarding_is_on: impl FnOnce() -> io::Result<bool>,
    ) -> Result<Self, InstanceError> {
        let path = dir.join(NAME);
        let failed = |error| InstanceError::File {
            path: path.clone(),
            error,
        };
        fs::create_dir_all(dir).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(InstanceError::InUse { path }),
            Err(error) => return Err(failed(error.into())),
        }
        let mut text = String::new();
        (&file)
            .take(MAX_LEN)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let boot = fs::read_to_string(BOOT_ID)
            .map_err(failed)?
            .trim()
            .to_owned();
        let left = if text.is_empty() {
            None
        } else {
            Some(parse(&text).ok_or_else(|| InstanceError::Damaged {
                path: path.clone(),
                prefix: prefix.to_owned(),
            })?)
        };
        let record = match left {
            Some(record) if record.boot == boot => record,
            _ => {
                let record = Record {
                    version: VERSION,
                    boot,
                    id: random_id().map_err(failed)?,
                    forwarding_was_on: forwarding_is_on().map_err(failed)?,
                };
                write(&file, &record).map_err(failed)?;
                record
            }
        };
        Ok(Self {
            path,
            record,
            _lock: file,
        })
    }

    /// Name of the nftables table.
    #[must_use]
    pub fn table(&self) -> String {
        format!("sandboxd_{}", self.record.id)
    }

    /// Alias of the TAPs.
    #[must_use]
    pub fn alias(&self) -> String {
        format!("sandboxd:{}", self.record.id)
    }

    /// Name of the interface with the services' addresses.
    #[must_use]
    pub fn services_interface(&self) -> String {
        format!("svc-{}", self.record.id)
    }

    /// Whether the host forwarded packets before this instance began.
    #[must_use]
    pub fn forwarding_was_on(&self) -> bool {
        self.record.forwarding_was_on
    }

    /// Ends the instance: nothing of it is left.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn end(self) -> Result<(), InstanceError> {
        fs::remove_file(&self.path).map_err(|error| InstanceError::File {
            path: self.path,
            error,
        })
    }
}

fn write(mut file: &File, record: &Record) -> io::Result<()> {
    let text = serde_json::to_string(record)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn parse(text: &str) -> Option<Record> {
    let record: Record = serde_json::from_str(text).ok()?;
    // The id becomes part of a command to nft.
    let plain = record.id.len() == 8 && record.id.bytes().all(|b| b.is_ascii_hexdigit());
    (record.version == VERSION && plain).then_some(record)
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, forwarding: bool) -> Result<Instance, InstanceError> {
        Instance::open(dir, "sbx", || Ok(forwarding))
    }

    #[test]
    fn a_successor_is_the_same_instance_and_keeps_what_was_before() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), false).unwrap();
        let (table, alias) = (first.table(), first.alias());
        drop(first);
        let second = open(dir.path(), true).unwrap();
        assert_eq!((second.table(), second.alias()), (table.clone(), alias));
        assert!(!second.forwarding_was_on());
        second.end().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_ne!(open(dir.path(), false).unwrap().table(), table);
    }

    #[test]
    fn after_a_reboot_it_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"{"version":1,"boot":"old","id":"1a2b3c4d","forwarding_was_on":false}"#;
        fs::write(dir.path().join(NAME), old).unwrap();
        let instance = open(dir.path(), true).unwrap();
        assert_ne!(instance.table(), "sandboxd_1a2b3c4d");
        assert!(instance.forwarding_was_on());
        let table = instance.table();
        drop(instance);
        let again = open(dir.path(), false).unwrap();
        assert_eq!(again.table(), table, "not written");
    }

    #[test]
    fn two_at_a_time_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path(), false).unwrap();
        assert!(matches!(
            open(dir.path(), false),
            Err(InstanceError::InUse { .. })
        ));
    }

    #[test]
    fn a_damaged_file_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "{",
            r#"{"version":2,"boot":"b","id":"1a2b3c4d","forwarding_was_on":true}"#,
            r#"{"version":1,"boot":"b","id":"x; flush ruleset","forwarding_was_on":true}"#,
        ] {
            fs::write(dir.path().join(NAME), text).unwrap();
            let error = open(dir.path(), false).unwrap_err();
            assert!(matches!(error, InstanceError::Damaged { .. }), "{text}");
            assert!(error.to_string().contains("remove it"));
        }
    }
}
