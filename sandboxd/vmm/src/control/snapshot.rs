//! Arguments and answers of the operations around snapshots.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Timestamps;
use crate::config::SerialConfig;
use crate::snapshot::{Kind, Stages};

/// Arguments of `snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotArgs {
    /// Folder to make; nothing may be there.
    pub dir: PathBuf,
    /// Whether memory is written whole or as what changed since the snapshot that the machine came from. A machine that came
    /// from none, or from a chain that is long enough, writes it whole whatever is asked for; the answer says which it was.
    #[serde(default)]
    pub kind: Kind,
    /// Whether memory and state are written; without them the snapshot holds disks alone, and `kind` has no meaning.
    #[serde(default = "yes")]
    pub memory: bool,
    /// What the caller calls the kernel; kept in the manifest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel: String,
    /// What the caller calls the image; kept in the manifest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Whether everything is on the host's disk before the answer comes.
    #[serde(default)]
    pub sync: bool,
    /// Whether memory is given a checksum. It costs a pass over what was written.
    #[serde(default)]
    pub checksum: bool,
    /// Whether the machine goes on as a clone of this snapshot: it shares the pages that were written, and the next diff holds
    /// only what changes from here. Without it the next diff is again one to the snapshot that the machine came from.
    #[serde(default)]
    pub rebase: bool,
}

/// Answer to `snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshotted {
    /// Name of the snapshot.
    pub id: String,
    /// Name of the snapshot that it continues.
    pub parent: Option<String>,
    /// How memory was written.
    pub kind: Kind,
    /// Layers of memory.
    pub memory_layers: usize,
    /// Bytes of memory written.
    pub memory_bytes: u64,
    /// Bytes of the disk layers that were frozen now.
    pub disk_bytes: u64,
    /// How long each stage took, in nanoseconds.
    pub stages: Stages,
}

/// What a restored disk has of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskOverride {
    /// Where the image is now, when it is not where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// File that takes what the guest writes from now on; every writable disk needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<PathBuf>,
    /// Most bytes that it may take, when it is not as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay_max_bytes: Option<u64>,
}

/// Arguments of `restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreArgs {
    /// Folder of the snapshot.
    pub dir: PathBuf,
    /// What disks have of their own, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disks: BTreeMap<String, DiskOverride>,
    /// Unix socket of the vsock device; needed when the machine has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<PathBuf>,
    /// What the machine is called from now on, when that was not known yet at the start of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// TAP interface; needed when the machine has a network card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// Where serial output goes; dropped when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<SerialConfig>,
    /// Whether the guest runs at once.
    #[serde(default = "yes")]
    pub resume: bool,
    /// Whether memory is read against its checksum first.
    #[serde(default)]
    pub verify: bool,
    /// Whether the host keeps exact books of the pages that the guest touches, for `record`. Nothing is brought in ahead then.
    #[serde(default)]
    pub record: bool,
}

/// Arguments of `stage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageArgs {
    /// Folder of the snapshot that will be restored.
    pub dir: PathBuf,
}

/// Answer to `record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Bytes of pages that were only read.
    pub read_bytes: u64,
    /// Bytes of pages that were written.
    pub written_bytes: u64,
}

/// Arguments of `rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackArgs {
    /// Folder of the snapshot.
    pub dir: PathBuf,
    /// Whether the guest runs at once.
    #[serde(default = "yes")]
    pub resume: bool,
}

/// Answer to `restore` and `rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// Name of the snapshot.
    pub id: String,
    /// The instants, as also in the statistics.
    pub times: Timestamps,
    /// How long each stage took, in nanoseconds.
    pub stages: Stages,
}

/// Answer to `prepare` and `stage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// How long it took, in nanoseconds.
    pub stages: Stages,
}

fn yes() -> bool {
    true
}
