//! Facts about a sandbox as they are saved: JSON of a type of its own, apart from the live types, with a version inside.
//!
//! ```text
//!   {"v":"1", …}                 what a sandbox was created with
//!   {"v":"2", "first":{…}, …}    and what it needs to be started again: environment, origin, rules of its end
//! ```
//!
//! Older versions are read for ever and written never.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::egress::{Net, Policy, Verdict};
use crate::lifecycle::sandbox::{AutoCheckpoint, Facts, Network, Origin};
use crate::lifecycle::state::OnTimeout;

/// Facts about a sandbox, in any version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum SavedFacts {
    /// First version.
    #[serde(rename = "1")]
    V1(FactsV1),
    /// Second version.
    #[serde(rename = "2")]
    V2(FactsV2),
}

/// First version of the saved facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactsV1 {
    /// Template id.
    pub template_id: String,
    /// First alias of the template.
    pub alias: Option<String>,
    /// Virtual processors.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Disk in MiB.
    pub disk_mib: u32,
    /// Seconds given by the create request.
    pub timeout: u32,
    /// The client's metadata.
    pub metadata: BTreeMap<String, String>,
    /// Token of the agent's services.
    pub access_token: Option<String>,
    /// Token of the other ports, when they are private.
    pub traffic_token: Option<String>,
    /// Host that requests seem to come for.
    pub mask_request_host: Option<String>,
    /// As the client wrote it.
    pub allow_internet_access: Option<bool>,
    /// As the client wrote it.
    pub network: Option<serde_json::Value>,
    /// The policy that holds.
    pub policy: SavedPolicy,
}

/// Second version of the saved facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactsV2 {
    /// What the first version held.
    pub first: FactsV1,
    /// Global environment.
    pub env: BTreeMap<String, String>,
    /// What becomes of it when its time is over.
    pub on_timeout: SavedOnTimeout,
    /// Whether traffic wakes it.
    pub auto_resume: bool,
    /// The snapshot that it was created from.
    pub origin: Option<SavedOrigin>,
    /// Its automatic checkpoints.
    pub auto_checkpoint: Option<SavedAutoCheckpoint>,
}

/// What becomes of a sandbox when its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SavedOnTimeout {
    /// It is killed.
    Kill,
    /// It is paused with its memory.
    Pause,
    /// It is paused without its memory.
    PauseFilesystem,
}

/// The snapshot that a sandbox was created from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedOrigin {
    /// The build.
    pub snapshot: String,
    /// Id of the snapshot as a template.
    pub family: String,
    /// Its name.
    pub name: Option<String>,
}

/// Automatic checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedAutoCheckpoint {
    /// One before every so many commands.
    pub every_commands: u32,
    /// How many are kept.
    pub keep: u32,
}

/// An egress policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPolicy {
    /// Whether what no list matches gets out.
    pub allow_by_default: bool,
    /// Let out.
    pub allow: Vec<String>,
    /// Kept in.
    pub deny: Vec<String>,
}

/// What the saved facts say.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// What the sandbox was created with.
    pub facts: Facts,
    /// Its network options.
    pub network: Network,
    /// Seconds given by the create request.
    pub timeout: u32,
    /// What becomes of it when its time is over.
    pub on_timeout: OnTimeout,
}

impl SavedFacts {
    /// The saved form.
    pub fn of(known: &Known) -> Self {
        let Known {
            facts,
            network,
            timeout,
            on_timeout,
        } = known.clone();
        Self::V2(FactsV2 {
            first: FactsV1 {
                template_id: facts.template_id,
                alias: facts.alias,
                vcpus: facts.vcpus,
                memory_mib: facts.memory_mib,
                disk_mib: facts.disk_mib,
                timeout,
                metadata: facts.metadata,
                access_token: facts.access_token,
                traffic_token: facts.traffic_token,
                mask_request_host: facts.mask_request_host,
                allow_internet_access: network.allow_internet_access,
                network: network.wire,
                policy: SavedPolicy::of(&network.policy),
            },
            env: facts.env,
            on_timeout: match on_timeout {
                OnTimeout::Kill => SavedOnTimeout::Kill,
                OnTimeout::Pause { memory: true } => SavedOnTimeout::Pause,
                OnTimeout::Pause { memory: false } => SavedOnTimeout::PauseFilesystem,
            },
            auto_resume: facts.auto_resume,
            origin: facts.origin.map(|origin| SavedOrigin {
                snapshot: origin.snapshot.to_string(),
                family: origin.family.to_string(),
                name: origin.name,
            }),
            auto_checkpoint: facts.auto_checkpoint.map(|auto| SavedAutoCheckpoint {
                every_commands: auto.every_commands,
                keep: auto.keep,
            }),
        })
    }

    /// What it says; `None` when a value in it cannot be.
    pub fn known(self) -> Option<Known> {
        let FactsV2 {
            first,
            env,
            on_timeout,
            auto_resume,
            origin,
            auto_checkpoint,
        } = match self {
            Self::V2(second) => second,
            Self::V1(first) => FactsV2 {
                first,
                env: BTreeMap::new(),
                on_timeout: SavedOnTimeout::Kill,
                auto_resume: false,
                origin: None,
                auto_checkpoint: None,
            },
        };
        let origin = match origin {
            None => None,
            Some(saved) => Some(Origin {
                snapshot: crate::ids::SnapshotId::parse(&saved.snapshot)?,
                family: crate::ids::SnapshotId::parse(&saved.family)?,
                name: saved.name,
            }),
        };
        Some(Known {
            network: Network {
                policy: first.policy.policy()?,
                allow_internet_access: first.allow_internet_access,
                wire: first.network,
            },
            timeout: first.timeout,
            on_timeout: match on_timeout {
                SavedOnTimeout::Kill => OnTimeout::Kill,
                SavedOnTimeout::Pause => OnTimeout::Pause { memory: true },
                SavedOnTimeout::PauseFilesystem => OnTimeout::Pause { memory: false },
            },
            facts: Facts {
                template_id: first.template_id,
                alias: first.alias,
                vcpus: first.vcpus,
                memory_mib: first.memory_mib,
                disk_mib: first.disk_mib,
                metadata: first.metadata,
                env,
                access_token: first.access_token,
                traffic_token: first.traffic_token,
                mask_request_host: first.mask_request_host,
                auto_resume,
                origin,
                auto_checkpoint: auto_checkpoint.map(|saved| AutoCheckpoint {
                    every_commands: saved.every_commands,
                    keep: saved.keep,
                }),
            },
        })
    }
}

impl SavedPolicy {
    /// The saved form of a policy.
    pub fn of(policy: &Policy) -> Self {
        let list = |nets: &[Net]| nets.iter().map(ToString::to_string).collect();
        Self {
            allow_by_default: policy.default == Verdict::Allow,
            allow: list(&policy.allow),
            deny: list(&policy.deny),
        }
    }

    /// The policy; `None` when an entry cannot be read.
    pub fn policy(&self) -> Option<Policy> {
        let list = |nets: &[String]| -> Option<Vec<Net>> {
            nets.iter().map(|net| net.parse().ok()).collect()
        };
        Some(Policy {
            default: if self.allow_by_default {
                Verdict::Allow
            } else {
                Verdict::Deny
            },
            allow: list(&self.allow)?,
            deny: list(&self.deny)?,
        })
    }
}
