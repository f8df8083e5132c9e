//! What a starting daemon does with what an earlier one left, however that one ended.
//!
//! ```text
//!   row            process         → verdict
//!   running        alive, answers  → adopt: serve it again, with the deadline it had
//!   running        anything else   → clean up
//!   running        (deadline over) → clean up
//!   creating       –               → clean up: no client was told about it
//!   stopping       –               → clean up: finish what was begun
//!   (no row)       found anyway    → end it and remove its folders
//! ```
//!
//! Cleaning up means that the process is dead and the folders, the cgroup and the row are gone. Slots of the network
//! that no adopted sandbox uses are released by the data plane itself when it is told that recovery is over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::manager::Manager;
use super::sandbox::{Facts, Inner, Network, Sandbox};
use super::state::{Event, Life, Span};
use crate::egress::{Net, Policy, Verdict};
use crate::ids::SandboxId;
use crate::machine::cgroup::PROCESS_OVERHEAD_MIB;
use crate::machine::process::ProcessIdentity;
use crate::moment::Moment;
use crate::store::StoreError;
use crate::store::sandboxes::{FactsV1, SavedPhase, SavedPolicy, SavedSandbox};

/// What to do with a row.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// Try to serve it again.
    Adopt(Box<Adoptable>),
    /// Clean up, because of this.
    Clean(&'static str),
}

/// A row that may be served again.
#[derive(Clone, Debug, PartialEq)]
struct Adoptable {
    id: SandboxId,
    facts: FactsV1,
    policy: Policy,
    process: ProcessIdentity,
    slot: Option<u32>,
    span: Span,
}

/// What recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sandboxes that are served again.
    pub adopted: usize,
    /// Sandboxes that were cleaned up.
    pub cleaned: usize,
    /// Processes that were ended.
    pub processes_ended: usize,
}

/// Decides about one row. Pure.
fn plan(row: SavedSandbox, untold: &HashSet<SandboxId>, now: Moment) -> Plan {
    let SavedSandbox {
        id,
        phase,
        facts,
        process,
        slot,
        span,
    } = row;
    match phase {
        SavedPhase::Creating => return Plan::Clean("it was still being created"),
        SavedPhase::Stopping => return Plan::Clean("it was being ended"),
        SavedPhase::Running => {}
    }
    let (Some(facts), Some(process), Some(span)) = (facts, process, span) else {
        return Plan::Clean("its row cannot be read");
    };
    let Some(policy) = facts.policy.policy() else {
        return Plan::Clean("its row cannot be read");
    };
    if untold.contains(&id) {
        return Plan::Clean("no client was told about it");
    }
    if span.end_at <= now {
        return Plan::Clean("its time was over");
    }
    Plan::Adopt(Box::new(Adoptable {
        id,
        facts,
        policy,
        process,
        slot,
        span,
    }))
}

/// Adopts what lives and cleans up the rest. Runs once, before anything is created.
pub async fn recover(manager: &Arc<Manager>) -> Result<Recovered, StoreError> {
    let store = manager.store().clone();
    let untold: HashSet<_> = store.abandon_unfinished().await?.into_iter().collect();
    let mut adopted = HashSet::new();
    let mut doomed = HashMap::new();
    for row in store.sandboxes().await? {
        let id = row.id.clone();
        match plan(row, &untold, Moment::now()) {
            Plan::Clean(why) => {
                doomed.insert(id, why.to_owned());
            }
            Plan::Adopt(row) => match adopt(manager, *row).await {
                Ok(()) => {
                    adopted.insert(id);
                }
                Err(why) => {
                    doomed.insert(id, why);
                }
            },
        }
    }
    let hypervisor = &manager.parts.hypervisor;
    let swept = hypervisor.sweep(adopted.clone(), HashSet::new()).await;
    for (id, why) in &doomed {
        tracing::info!(sandbox = %id, why, "cleaned up");
        manager.parts.hypervisor.discard(id.clone()).await;
        manager.note(
            id,
            "ended",
            &format!("The sandbox ended with an earlier daemon: {why}."),
        );
        store.remove_sandbox(id.clone()).await?;
    }
    if let Err(error) = manager.parts.egress.recovered().await {
        tracing::error!(%error, "network slots of an earlier daemon were not released");
    }
    Ok(Recovered {
        adopted: adopted.len(),
        cleaned: doomed.len(),
        processes_ended: swept.processes,
    })
}

async fn adopt(manager: &Arc<Manager>, row: Adoptable) -> Result<(), String> {
    let parts = &manager.parts;
    let machine = parts
        .hypervisor
        .adopt(row.id.clone(), row.process)
        .await
        .map_err(|error| error.to_string())?;
    if let Some(slot) = row.slot
        && let Err(error) = parts.egress.adopt(slot, row.policy.clone()).await
    {
        machine.kill();
        machine.exited().await;
        return Err(error.to_string());
    }
    let memory = u64::from(row.facts.memory_mib) + PROCESS_OVERHEAD_MIB;
    let FactsV1 {
        template_id,
        alias,
        vcpus,
        memory_mib,
        disk_mib,
        timeout,
        metadata,
        access_token,
        traffic_token,
        mask_request_host,
        allow_internet_access,
        network,
        policy: _,
    } = row.facts;
    let sandbox = Arc::new(Sandbox::new(
        row.id,
        Facts {
            template_id,
            alias,
            vcpus,
            memory_mib,
            disk_mib,
            metadata,
            access_token,
            traffic_token,
            mask_request_host,
        },
        Inner {
            life: Life::adopted(row.span, timeout, parts.bounds.longest_life),
            machine: Some(machine.clone()),
            reservation: Some(parts.admission.adopt(memory)),
            slot: row.slot,
            network: Network {
                policy: row.policy,
                allow_internet_access,
                wire: network,
            },
        },
        parts.bounds.connections,
    ));
    manager.add(sandbox.clone());
    manager.watch(&sandbox, &machine);
    tracing::info!(sandbox = %sandbox.id, "adopted");
    // A tick before the deadline only sets the timer.
    let _ = manager.drive(&sandbox, Event::Tick(Moment::now())).await;
    Ok(())
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

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
