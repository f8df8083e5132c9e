//! Samples as clients see them, and the window of time they ask for. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::ids::SandboxId;
use crate::lifecycle::sandbox::Sample;
use crate::moment::Moment;

/// Most sandboxes asked about at once.
const MAX_IDS: usize = 100;

/// Query of the metrics of one sandbox.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// First second, since the Unix epoch.
    start: Option<i64>,
    /// Last second, since the Unix epoch.
    end: Option<i64>,
}

/// Query of the metrics of many sandboxes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    sandbox_ids: String,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxMetric {
    /// When.
    #[schema(value_type = String)]
    pub timestamp: Moment,
    /// When, in seconds since the Unix epoch.
    pub timestamp_unix: i64,
    /// Virtual processors.
    pub cpu_count: u32,
    /// Their use in percent, together.
    pub cpu_used_pct: f32,
    /// Memory in use, in bytes.
    pub mem_used: u64,
    /// Memory, in bytes.
    pub mem_total: u64,
    /// Page cache, in bytes.
    pub mem_cache: u64,
    /// Disk in use, in bytes.
    pub disk_used: u64,
    /// Disk, in bytes.
    pub disk_total: u64,
}

/// The latest sample per sandbox.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LatestMetrics {
    /// By sandbox id.
    pub sandboxes: BTreeMap<String, SandboxMetric>,
}

impl Window {
    /// Whether a sample lies in the window.
    pub fn holds(&self, sample: &Sample) -> bool {
        self.start.is_none_or(|start| sample.ts >= start)
            && self.end.is_none_or(|end| sample.ts <= end)
    }
}

impl Ids {
    /// The ids.
    pub fn check(&self) -> Result<Vec<SandboxId>, ApiError> {
        let ids: Option<Vec<_>> = self
            .sandbox_ids
            .split(',')
            .map(|id| SandboxId::parse(id.trim()))
            .collect();
        ids.filter(|ids| ids.len() <= MAX_IDS)
            .ok_or_else(|| ApiError::Field {
                field: "sandbox_ids",
                why: format!("it must be a list of 1 to {MAX_IDS} sandbox ids"),
            })
    }
}

impl From<&Sample> for SandboxMetric {
    fn from(sample: &Sample) -> Self {
        Self {
            timestamp: Moment::from_micros(sample.ts.saturating_mul(1_000_000)),
            timestamp_unix: sample.ts,
            cpu_count: sample.cpu_count,
            cpu_used_pct: sample.cpu_used_pct,
            mem_used: sample.mem_used,
            mem_total: sample.mem_total,
            mem_cache: sample.mem_cache,
            disk_used: sample.disk_used,
            disk_total: sample.disk_total,
        }
    }
}
