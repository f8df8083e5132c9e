//! Memory by number of live sandboxes, and what a run left behind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Steps up until something gives way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Density {
    /// A sandbox counts as live while it answers a command within this.
    pub answer_bound_ns: u64,
    /// Memory that each guest was given.
    pub guest_memory_bytes: Option<u64>,
    /// What was read, by rising number of sandboxes.
    pub rows: Vec<DensityRow>,
    /// Why no more were made.
    pub stop: Stop,
}

/// One reading. Figures of memory are means for one sandbox; `null` where they could not be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DensityRow {
    /// Sandboxes that answered.
    pub live: u64,
    /// Sandboxes that did not.
    pub silent: u64,
    /// What they were doing.
    pub activity: Activity,
    /// What the VMM itself takes: proportional set of its mappings without guest memory.
    pub vmm_pss_bytes: Option<u64>,
    /// Proportional set of the whole process, guest memory included.
    pub pss_bytes: Option<u64>,
    /// Pages that are this process's own and dirty.
    pub private_dirty_bytes: Option<u64>,
    /// What its cgroup is charged.
    pub cgroup_bytes: Option<u64>,
    /// How much less the host has available than before the first sandbox, divided by their number. Can be negative.
    pub available_delta_bytes: Option<i64>,
    /// What the guest says that it uses.
    pub guest_used_bytes: Option<u64>,
    /// Median time of a command's answer over all of them.
    pub answer_p50_ns: Option<u64>,
    /// The slowest one's.
    pub answer_max_ns: Option<u64>,
}

/// What sandboxes were doing when they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nothing since they started.
    Idle,
    /// They had run this.
    After(String),
}

/// Why a climb ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Why.
    pub reason: StopReason,
    /// In words.
    pub detail: String,
}

/// Why a climb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// The number that was asked for was reached.
    Asked,
    /// The host ran short of memory.
    Memory,
    /// A sandbox did not answer in time.
    BoundMissed,
    /// The target made no more.
    Refused,
    /// Time was up, or somebody interrupted.
    Cut,
}

/// One line of the ledger of leaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leak {
    /// What is counted: `processes`, `taps`, `mounts`, `fds`, `cgroups`, `map entries`, `files`, `sandboxes`.
    pub what: String,
    /// Before the first sandbox.
    pub before: u64,
    /// At the most.
    pub peak: Option<u64>,
    /// After the last was killed.
    pub after: u64,
}
