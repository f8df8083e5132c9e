//! Rows of sandboxes: what is needed to find one again, to serve it again, or to clean up after it.
//!
//! ```text
//!   (absent) ── insert ──► creating ── mark_running ──► running ── mark_stopping ──► stopping ── remove ──► (absent)
//!                             └────────────────────── mark_stopping ───────────────────▲
//! ```
//!
//! The facts are saved as JSON of a type of its own, apart from the live types, with a version inside; a row that
//! cannot be read any more is reported and its sandbox is cleaned up rather than kept half-known.

use std::collections::BTreeMap;

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::ids::SandboxId;
use crate::lifecycle::state::Span;
use crate::machine::process::ProcessIdentity;
use crate::moment::Moment;

/// Where a row is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedPhase {
    /// Its machine is being started.
    Creating,
    /// It serves.
    Running,
    /// It is to be ended.
    Stopping,
}

/// Facts about a sandbox that don't change, and its egress policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum SavedFacts {
    /// First version.
    #[serde(rename = "1")]
    V1(FactsV1),
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

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSandbox {
    /// Its id.
    pub id: SandboxId,
    /// Where it is.
    pub phase: SavedPhase,
    /// Its facts; `None` when they cannot be read.
    pub facts: Option<FactsV1>,
    /// Its process, once it runs.
    pub process: Option<ProcessIdentity>,
    /// Its network slot, if it has one.
    pub slot: Option<u32>,
    /// Its span, once it runs.
    pub span: Option<Span>,
}

impl Store {
    /// Says that a sandbox is about to be created.
    pub async fn insert_sandbox(&self, id: SandboxId, facts: FactsV1) -> Result<(), StoreError> {
        self.run(move |db| {
            let facts = serde_json::to_string(&SavedFacts::V1(facts))?;
            db.execute(
                "INSERT INTO sandboxes (id, phase, facts) VALUES (?, 'creating', ?)",
                params![id.as_str(), facts],
            )?;
            Ok(())
        })
        .await
    }

    /// Says which network slot a sandbox is about to use.
    pub async fn set_slot(&self, id: SandboxId, slot: u32) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE sandboxes SET slot = ? WHERE id = ?",
                params![slot, id.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// Says that a sandbox serves, with the deadline set before; counts the use of its template.
    pub async fn mark_running(
        &self,
        id: SandboxId,
        template_id: String,
        process: ProcessIdentity,
        started_at: Moment,
    ) -> Result<(), StoreError> {
        self.run(move |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "UPDATE sandboxes SET phase = 'running', pid = ?, start_time = ?, started_at = ?
                 WHERE id = ? AND phase = 'creating'",
                params![
                    process.pid,
                    i64::try_from(process.start_time).unwrap_or(i64::MAX),
                    started_at.as_micros(),
                    id.as_str()
                ],
            )?;
            transaction.execute(
                "INSERT INTO template_use VALUES (?1, 1, ?2) ON CONFLICT (template_id)
                 DO UPDATE SET spawn_count = spawn_count + 1, last_spawned_at = ?2",
                params![template_id, started_at.as_micros()],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Moves a sandbox's deadline. The write takes its place in the queue when this is called, not when the result is
    /// waited for, so that a caller that holds a lock decides the order.
    pub fn set_end(
        &self,
        id: SandboxId,
        end_at: Moment,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.run(move |db| {
            db.execute(
                "UPDATE sandboxes SET end_at = ? WHERE id = ?",
                params![end_at.as_micros(), id.as_str()],
            )?;
            Ok(())
        })
    }

    /// Replaces a sandbox's facts (its network options changed).
    pub async fn set_facts(&self, id: SandboxId, facts: FactsV1) -> Result<(), StoreError> {
        self.run(move |db| {
            let facts = serde_json::to_string(&SavedFacts::V1(facts))?;
            db.execute(
                "UPDATE sandboxes SET facts = ? WHERE id = ?",
                params![facts, id.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// Says that a sandbox is about to be ended.
    pub async fn mark_stopping(&self, id: SandboxId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE sandboxes SET phase = 'stopping' WHERE id = ?",
                params![id.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// Says that nothing is left of a sandbox.
    pub async fn remove_sandbox(&self, id: SandboxId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute("DELETE FROM sandboxes WHERE id = ?", params![id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// All rows.
    pub async fn sandboxes(&self) -> Result<Vec<SavedSandbox>, StoreError> {
        self.run(|db| {
            let mut statement = db.prepare(
                "SELECT id, phase, facts, pid, start_time, slot, started_at, end_at FROM sandboxes ORDER BY id",
            )?;
            let rows = statement.query_map([], read_row)?;
            Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// Reads a row; `None` for an id that no sandbox could have had.
fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<SavedSandbox>> {
    let id: String = row.get(0)?;
    let Some(id) = SandboxId::parse(&id) else {
        return Ok(None);
    };
    let phase = match row.get_ref(1)?.as_str()? {
        "creating" => SavedPhase::Creating,
        "running" => SavedPhase::Running,
        _ => SavedPhase::Stopping,
    };
    let facts = serde_json::from_str(row.get_ref(2)?.as_str()?)
        .ok()
        .map(|SavedFacts::V1(facts)| facts);
    let (pid, start_time): (Option<i32>, Option<i64>) = (row.get(3)?, row.get(4)?);
    let (started_at, end_at): (Option<i64>, Option<i64>) = (row.get(6)?, row.get(7)?);
    Ok(Some(SavedSandbox {
        id,
        phase,
        facts,
        process: pid
            .zip(start_time)
            .map(|(pid, start_time)| ProcessIdentity {
                pid,
                start_time: u64::try_from(start_time).unwrap_or(0),
            }),
        slot: row.get(5)?,
        span: started_at.zip(end_at).map(|(started_at, end_at)| Span {
            started_at: Moment::from_micros(started_at),
            end_at: Moment::from_micros(end_at),
        }),
    }))
}
