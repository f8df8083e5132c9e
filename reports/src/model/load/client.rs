//! What measuring itself cost: a client that is busy measures itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The measuring process over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Processor time in user space.
    pub cpu_user_ns: u64,
    /// Processor time in the kernel.
    pub cpu_system_ns: u64,
    /// Wall clock of the same.
    pub wall_ns: u64,
    /// Most resident memory.
    pub rss_peak_bytes: u64,
    /// How late requests were sent against the plan: median.
    pub send_delay_p50_ns: Option<u64>,
    /// P99 of the same.
    pub send_delay_p99_ns: Option<u64>,
    /// Time that the hypervisor took from this machine.
    pub steal_ns: Option<u64>,
}
