//! Where something was measured. Figures of different environments are never compared.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The two ends of a measurement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The machine that measured.
    pub client: Option<Machine>,
    /// The machine that was measured, where it could be looked at; the same one where both are on one.
    pub host: Option<Machine>,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Processors that programs may use.
    pub cpus: u32,
    /// Kernel, as `uname -sr` says.
    pub kernel: String,
    /// How its guests run, or why it has none.
    pub virtualization: Virtualization,
    /// `MemTotal`.
    pub memory_bytes: u64,
    /// Type of the file system that holds what is measured, such as `ext4`.
    pub file_system: Option<String>,
    /// State of the page cache and of pools when measuring began, in words: `warm`, `dropped`, …
    pub cache_state: Option<String>,
    /// Versions of programs that matter here, by name.
    pub versions: BTreeMap<String, String>,
}

/// How guests run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Virtualization {
    /// The processor's own virtualization.
    Hardware,
    /// A machine whose virtualization is emulated in software, 10 to 20 times slower: good for ratios only.
    Lab,
    /// No guests here: a client, or a stub.
    None,
    /// Nobody looked.
    Unknown,
}
