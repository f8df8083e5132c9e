//! What a starting daemon does with what an earlier one left, however that one ended.
//!
//! ```text
//!   row                     snapshot of the row    → verdict
//!   running, capturing      –                      → adopt: serve it again, with the deadline it had
//!   rolling back            whole                  → adopt, and go back again
//!   rolling back            not whole              → adopt
//!   pausing                 whole                  → paused; a process that is left is ended
//!   pausing                 not whole              → adopt: it was never paused
//!   paused, resuming        whole                  → paused; a process that is left is ended
//!   paused, resuming        not whole              → clean up
//!   creating                –                      → clean up: no client was told about it
//!   stopping                –                      → clean up: finish what was begun
//!   (no row)                –                      → end its process, remove its folders and snapshots
//! ```
//!
//! What is to be adopted and whose process is dead or does not answer is cleaned up; so is what would be killed at once
//! because its time was over. A snapshot is kept when it is whole and somebody may ask for it: a paused sandbox goes on
//! from it, a living one can go back to it, or a client gave it a name. Every other one goes, and its row with it.
//!
//! Cleaning up means that the process is dead and the folders, the cgroup and the row are gone. Slots of the network
//! that no adopted sandbox uses are released by the data plane itself when it is told that recovery is over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::create::share;
use super::manager::Manager;
use super::sandbox::{Inner, Rest, Sandbox};
use super::state::{Event, Life, Limits, OnTimeout, Span};
use crate::ids::{SandboxId, SnapshotId};
use crate::machine::process::ProcessIdentity;
use crate::moment::Moment;
use crate::store::StoreError;
use crate::store::captures::{Kind, SavedCapture};
use crate::store::facts::Known;
use crate::store::sandboxes::{SavedPhase, SavedSandbox};

/// What to do with a row.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// Try to serve it again.
    Adopt(Box<Adoptable>),
    /// Keep it paused.
    Rest(Box<Resting>),
    /// Clean up, because of this.
    Clean(&'static str),
}

/// A row that may be served again.
#[derive(Clone, Debug, PartialEq)]
struct Adoptable {
    id: SandboxId,
    known: Known,
    process: ProcessIdentity,
    slot: Option<u32>,
    span: Span,
    /// It was going back to this.
    back_to: Option<SnapshotId>,
}

/// A row that is paused.
#[derive(Clone, Debug, PartialEq)]
struct Resting {
    id: SandboxId,
    known: Known,
    span: Span,
    rest: Rest,
}

/// What recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sandboxes that are served again.
    pub adopted: usize,
    /// Sandboxes that are paused.
    pub paused: usize,
    /// Sandboxes that were cleaned up.
    pub cleaned: usize,
    /// Processes that were ended.
    pub processes_ended: usize,
}

/// Decides about one row, whose snapshot is `whole` or not. Pure.
fn plan(row: SavedSandbox, whole: bool, untold: &HashSet<SandboxId>, now: Moment) -> Plan {
    let SavedSandbox {
        id,
        phase,
        known,
        process,
        slot,
        span,
        snapshot,
    } = row;
    match phase {
        SavedPhase::Creating => return Plan::Clean("it was still being created"),
        SavedPhase::Stopping => return Plan::Clean("it was being ended"),
        _ => {}
    }
    let (Some(known), Some(span)) = (known, span) else {
        return Plan::Clean("its row cannot be read");
    };
    if untold.contains(&id) {
        return Plan::Clean("no client was told about it");
    }
    let snapshot = snapshot.filter(|_| whole);
    match (phase, snapshot) {
        (SavedPhase::Paused | SavedPhase::Resuming, None) => {
            Plan::Clean("the snapshot that it was paused to is gone")
        }
        (SavedPhase::Paused | SavedPhase::Resuming | SavedPhase::Pausing, Some(snapshot)) => {
            Plan::Rest(Box::new(Resting {
                id,
                known,
                span,
                rest: Rest {
                    snapshot: snapshot.id,
                    memory: snapshot.memory,
                },
            }))
        }
        (_, snapshot) => {
            let Some(process) = process else {
                return Plan::Clean("its row cannot be read");
            };
            if span.end_at <= now && known.on_timeout == OnTimeout::Kill {
                return Plan::Clean("its time was over");
            }
            Plan::Adopt(Box::new(Adoptable {
                id,
                known,
                process,
                slot,
                span,
                back_to: snapshot
                    .map(|s| s.id)
                    .filter(|_| phase == SavedPhase::RollingBack),
            }))
        }
    }
}

/// Whether a snapshot is kept. Pure.
fn keeps(
    row: &SavedCapture,
    there: bool,
    living: &HashSet<SandboxId>,
    rests: &HashSet<SnapshotId>,
) -> bool {
    there
        && match row.kind {
            // The row of the sandbox says whether it is whole.
            Kind::Pause => rests.contains(&row.id),
            Kind::Fork => false,
            Kind::Checkpoint => row.whole && living.contains(&row.sandbox),
            Kind::Named => row.whole,
        }
}

/// Adopts what lives, keeps what is paused and cleans up the rest. Runs once, before anything is created.
pub async fn recover(manager: &Arc<Manager>) -> Result<Recovered, StoreError> {
    let store = manager.store().clone();
    let hypervisor = &manager.parts.hypervisor;
    let untold: HashSet<_> = store.abandon_unfinished().await?.into_iter().collect();
    let (mut adopted, mut doomed) = (HashSet::new(), HashMap::new());
    let (mut living, mut rests, mut back) = (HashSet::new(), HashSet::new(), Vec::new());
    for row in store.sandboxes().await? {
        let id = row.id.clone();
        let whole = |row: &SavedSandbox| {
            let snapshot = row.snapshot.as_ref();
            snapshot.is_some_and(|snapshot| hypervisor.has_snapshot(&snapshot.id))
        };
        let mut verdict = plan(row.clone(), whole(&row), &untold, Moment::now());
        if let Plan::Adopt(adoptable) = &verdict {
            match adopt(manager, (**adoptable).clone()).await {
                Ok(()) => {
                    store.end_work(id.clone()).await?;
                    back.extend(adoptable.back_to.clone().map(|to| (id.clone(), to)));
                    living.insert(id.clone());
                    adopted.insert(id);
                    continue;
                }
                Err(why) => {
                    // It may just have finished what was being written when it was looked at first.
                    verdict = plan(row.clone(), whole(&row), &untold, Moment::now());
                    if matches!(verdict, Plan::Adopt(_)) {
                        doomed.insert(id, why);
                        continue;
                    }
                }
            }
        }
        match verdict {
            Plan::Rest(resting) => {
                living.insert(id);
                rests.insert(resting.rest.snapshot.clone());
                rest(manager, *resting).await?;
            }
            Plan::Clean(why) => drop(doomed.insert(id, why.to_owned())),
            Plan::Adopt(_) => {}
        }
    }
    let mut kept = HashSet::new();
    for row in store.snapshots().await? {
        let there = hypervisor.has_snapshot(&row.id);
        if keeps(&row, there, &living, &rests) {
            kept.insert(row.id);
        } else {
            hypervisor.discard_snapshot(row.id.clone()).await;
            store.remove_snapshot(row.id).await?;
        }
    }
    let swept = hypervisor.sweep(adopted.clone(), kept).await;
    for (id, to) in back {
        if let Some(sandbox) = manager.find(&id)
            && let Err(error) = manager.roll_back_again(&sandbox, to).await
        {
            tracing::warn!(sandbox = %id, %error, "not taken back again");
        }
    }
    for (id, why) in &doomed {
        tracing::info!(sandbox = %id, why, "cleaned up");
        hypervisor.discard(id.clone()).await;
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
        paused: rests.len(),
        cleaned: doomed.len(),
        processes_ended: swept.processes,
    })
}

fn limits(manager: &Manager, known: &Known) -> Limits {
    Limits {
        timeout: known.timeout,
        longest: manager.parts.bounds.longest_life,
        on_timeout: known.on_timeout,
    }
}

async fn adopt(manager: &Arc<Manager>, row: Adoptable) -> Result<(), String> {
    let parts = &manager.parts;
    let machine = parts
        .hypervisor
        .adopt(row.id.clone(), row.process)
        .await
        .map_err(|error| error.to_string())?;
    let mut tap = None;
    if let Some(slot) = row.slot {
        let policy = row.known.network.policy.clone();
        match parts.egress.adopt(slot, policy).await {
            Ok(adopted) => tap = adopted,
            Err(error) => {
                machine.kill();
                machine.exited().await;
                return Err(error.to_string());
            }
        }
    }
    let life = Life::adopted(row.span, limits(manager, &row.known));
    let mut inner = Inner::new(life, row.known.network);
    inner.machine = Some(machine.clone());
    inner.reservation = Some(parts.admission.adopt(share(row.known.facts.memory_mib)));
    inner.tap = tap;
    let limit = parts.bounds.connections;
    let sandbox = Arc::new(Sandbox::new(row.id, row.known.facts, inner, limit));
    manager.add(sandbox.clone());
    let run = sandbox.lock().life.run();
    manager.watch(&sandbox, &machine, run);
    tracing::info!(sandbox = %sandbox.id, "adopted");
    // A tick before the deadline only sets the timer.
    drop(manager.drive(&sandbox, Event::Tick(Moment::now())));
    Ok(())
}

/// Registers a sandbox that is paused.
async fn rest(manager: &Arc<Manager>, row: Resting) -> Result<(), StoreError> {
    let store = manager.store();
    store.mark_paused(row.id.clone(), Moment::now()).await?;
    store.back_to_paused(row.id.clone()).await?;
    let life = Life::paused(row.span, limits(manager, &row.known));
    let mut inner = Inner::new(life, row.known.network);
    inner.rest = Some(row.rest);
    let limit = manager.parts.bounds.connections;
    tracing::info!(sandbox = %row.id, "still paused");
    manager.add(Arc::new(Sandbox::new(
        row.id,
        row.known.facts,
        inner,
        limit,
    )));
    Ok(())
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
