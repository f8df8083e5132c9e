//! Rows of sandboxes: what is needed to find one again, to serve it again, or to clean up after it.
//!
//! ```text
//!   (absent) ─ insert ─► creating ─ mark_running ─► running ─┬─ begin_work ─► capturing, rolling_back ─ end_work ─► running
//!                                                            └─ begin_pause ─► pausing ─┬─ mark_paused ─► paused
//!                                                                                       └─ end_work ────► running
//!   paused ─ begin_resume ─► resuming ─┬─ mark_resumed ─► running
//!                                      └─ back_to_paused ─► paused
//!   any ─ mark_stopping ─► stopping ─ remove ─► (absent)
//! ```
//!
//! Each step but `mark_stopping` asks for the phase that it leaves: a report that comes late changes nothing. A row whose
//! facts cannot be read any more is reported, and its sandbox is cleaned up rather than kept half-known.

use rusqlite::params;

use super::facts::{Known, SavedFacts};
use super::{Store, StoreError};
use crate::ids::{SandboxId, SnapshotId};
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
    /// It serves, and a snapshot of it is being taken.
    Capturing,
    /// It goes back to the snapshot that the row names.
    RollingBack,
    /// The snapshot that the row names is being taken; then its machine ends.
    Pausing,
    /// The snapshot that the row names is all there is of it.
    Paused,
    /// A machine is being started from the snapshot that the row names.
    Resuming,
    /// It is to be ended.
    Stopping,
}

impl SavedPhase {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Creating, "creating"),
        (Self::Running, "running"),
        (Self::Capturing, "capturing"),
        (Self::RollingBack, "rolling_back"),
        (Self::Pausing, "pausing"),
        (Self::Paused, "paused"),
        (Self::Resuming, "resuming"),
        (Self::Stopping, "stopping"),
    ];

    fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(phase, _)| *phase == self);
        named.map_or("stopping", |(_, name)| name)
    }

    /// The phase of a name; what is unknown is to be ended.
    fn of(name: &str) -> Self {
        let named = Self::ALL.iter().find(|(_, known)| *known == name);
        named.map_or(Self::Stopping, |(phase, _)| *phase)
    }
}

/// The snapshot that a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSnapshot {
    /// Which.
    pub id: SnapshotId,
    /// Whether it holds memory.
    pub memory: bool,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSandbox {
    /// Its id.
    pub id: SandboxId,
    /// Where it is.
    pub phase: SavedPhase,
    /// What it is; `None` when that cannot be read.
    pub known: Option<Known>,
    /// Its process, once it runs.
    pub process: Option<ProcessIdentity>,
    /// Its network slot, if it has one.
    pub slot: Option<u32>,
    /// Its span, once it runs.
    pub span: Option<Span>,
    /// The snapshot that it was paused to, or goes back to.
    pub snapshot: Option<SavedSnapshot>,
}

impl Store {
    /// Says that a sandbox is about to be created.
    pub async fn insert_sandbox(&self, id: SandboxId, known: &Known) -> Result<(), StoreError> {
        let facts = SavedFacts::of(known);
        self.run(move |db| {
            let facts = serde_json::to_string(&facts)?;
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
                "UPDATE sandboxes SET phase = 'running', pid = ?, start_time = ?, started_at = ?4, since = ?4
                 WHERE id = ?3 AND phase = 'creating'",
                params![
                    process.pid,
                    start_time(process),
                    id.as_str(),
                    started_at.as_micros(),
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

    /// Says that a running sandbox is about to be captured, go back to a snapshot, or be paused to one.
    pub async fn begin_work(
        &self,
        id: SandboxId,
        phase: SavedPhase,
        snapshot: Option<SavedSnapshot>,
    ) -> Result<(), StoreError> {
        self.run(move |db| {
            let (snapshot, memory) = snapshot.map(|s| (s.id.to_string(), s.memory)).unzip();
            db.execute(
                "UPDATE sandboxes SET phase = ?, snapshot = ?, memory = ? WHERE id = ? AND phase = 'running'",
                params![phase.name(), snapshot, memory, id.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// Says that what was begun has ended and the machine goes on.
    pub async fn end_work(&self, id: SandboxId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE sandboxes SET phase = 'running', snapshot = NULL, memory = NULL
                 WHERE id = ? AND phase IN ('capturing', 'rolling_back', 'pausing')",
                [id.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// Says that the snapshot of a sandbox that is being paused is whole: from here on it is all that counts.
    pub async fn mark_paused(&self, id: SandboxId, at: Moment) -> Result<(), StoreError> {
        self.run(move |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "UPDATE snapshots SET whole = 1 WHERE id = (SELECT snapshot FROM sandboxes WHERE id = ?)",
                [id.as_str()],
            )?;
            transaction.execute(
                "UPDATE sandboxes SET phase = 'paused', end_at = ? WHERE id = ? AND phase = 'pausing'",
                params![at.as_micros(), id.as_str()],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Says that a machine is about to be started from a sandbox's snapshot.
    pub async fn begin_resume(&self, id: SandboxId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE sandboxes SET phase = 'resuming', pid = NULL, start_time = NULL, slot = NULL
                 WHERE id = ? AND phase = 'paused'",
                [id.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// Says that the resumed machine serves.
    pub async fn mark_resumed(
        &self,
        id: SandboxId,
        process: ProcessIdentity,
        since: Moment,
        end_at: Moment,
    ) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE sandboxes SET phase = 'running', pid = ?, start_time = ?, since = ?, end_at = ?,
                     snapshot = NULL, memory = NULL
                 WHERE id = ? AND phase = 'resuming'",
                params![
                    process.pid,
                    start_time(process),
                    since.as_micros(),
                    end_at.as_micros(),
                    id.as_str()
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Says that a sandbox was not resumed and nothing of the attempt is left.
    pub async fn back_to_paused(&self, id: SandboxId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE sandboxes SET phase = 'paused', slot = NULL WHERE id = ? AND phase = 'resuming'",
                [id.as_str()],
            )?;
            Ok(())
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
    pub async fn set_facts(&self, id: SandboxId, known: &Known) -> Result<(), StoreError> {
        let facts = SavedFacts::of(known);
        self.run(move |db| {
            let facts = serde_json::to_string(&facts)?;
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
                "SELECT id, phase, facts, pid, start_time, slot, started_at, since, end_at, snapshot, memory
                 FROM sandboxes ORDER BY id",
            )?;
            let rows = statement.query_map([], read_row)?;
            Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn start_time(process: ProcessIdentity) -> i64 {
    i64::try_from(process.start_time).unwrap_or(i64::MAX)
}

/// Reads a row; `None` for an id that no sandbox could have had.
fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<SavedSandbox>> {
    let id: String = row.get(0)?;
    let Some(id) = SandboxId::parse(&id) else {
        return Ok(None);
    };
    let known = serde_json::from_str(row.get_ref(2)?.as_str()?).ok();
    let (pid, start_time): (Option<i32>, Option<i64>) = (row.get(3)?, row.get(4)?);
    let moment = |index| -> rusqlite::Result<Option<Moment>> {
        Ok(row.get::<_, Option<i64>>(index)?.map(Moment::from_micros))
    };
    let (started_at, since, end_at) = (moment(6)?, moment(7)?, moment(8)?);
    let snapshot: Option<String> = row.get(9)?;
    let memory: Option<bool> = row.get(10)?;
    Ok(Some(SavedSandbox {
        id,
        phase: SavedPhase::of(row.get_ref(1)?.as_str()?),
        known: known.and_then(SavedFacts::known),
        process: pid
            .zip(start_time)
            .map(|(pid, start_time)| ProcessIdentity {
                pid,
                start_time: u64::try_from(start_time).unwrap_or(0),
            }),
        slot: row.get(5)?,
        span: started_at.zip(end_at).map(|(started_at, end_at)| Span {
            started_at,
            since: since.unwrap_or(started_at),
            end_at,
        }),
        snapshot: snapshot
            .and_then(|text| SnapshotId::parse(&text))
            .map(|id| SavedSnapshot {
                id,
                memory: memory.unwrap_or(true),
            }),
    }))
}
