//! Rows of snapshots: one for every folder with a snapshot of a sandbox, written before the folder is.
//!
//! ```text
//!   (absent) ─ insert_snapshot ─► not whole ─┬─ mark_whole ──► whole
//!                                            ◄─ retire_snapshot ┘
//!                                            └─ remove_snapshot ─► (absent)
//! ```
//!
//! | kind | belongs to | lives until |
//! |---|---|---|
//! | `pause` | its sandbox | the sandbox runs again, or is gone |
//! | `fork` | one call | its children run |
//! | `checkpoint` | its sandbox | it is deleted, or the sandbox is gone |
//! | `named` | whoever asked for it | it is deleted |
//!
//! A row that is not whole when a daemon starts is of a call that was never answered, and goes.

use rusqlite::{OptionalExtension, params};

use super::facts::{Known, SavedFacts};
use super::{Store, StoreError};
use crate::ids::{SandboxId, SnapshotId};
use crate::moment::Moment;

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sandbox is paused to it.
    Pause,
    /// Children of a fork start from it.
    Fork,
    /// A sandbox can go back to it.
    Checkpoint,
    /// Sandboxes are created from it.
    Named,
}

impl Kind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Pause, "pause"),
        (Self::Fork, "fork"),
        (Self::Checkpoint, "checkpoint"),
        (Self::Named, "named"),
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Fork => "fork",
            Self::Checkpoint => "checkpoint",
            Self::Named => "named",
        }
    }
}

/// How a snapshot is known to clients: builds of one family that have the same tag are one snapshot, of which the newest
/// counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its id as a template: the id of the first build.
    pub family: SnapshotId,
    /// Its name.
    pub name: Option<String>,
    /// Its tag.
    pub tag: String,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedCapture {
    /// Its id, and its folder's name.
    pub id: SnapshotId,
    /// What it is for.
    pub kind: Kind,
    /// Of which sandbox it was taken.
    pub sandbox: SandboxId,
    /// Whether it is there.
    pub whole: bool,
    /// Whether it holds memory.
    pub memory: bool,
    /// Name of a checkpoint.
    pub checkpoint: Option<String>,
    /// How a named one is known.
    pub label: Option<Label>,
    /// What the sandbox was, of a named one.
    pub known: Option<Known>,
    /// When it was asked for.
    pub created_at: Moment,
}

impl SavedCapture {
    /// A snapshot that is about to be taken.
    pub fn new(id: SnapshotId, kind: Kind, sandbox: SandboxId, memory: bool) -> Self {
        Self {
            id,
            kind,
            sandbox,
            whole: false,
            memory,
            checkpoint: None,
            label: None,
            known: None,
            created_at: Moment::now(),
        }
    }
}

impl Store {
    /// Says that a snapshot is about to be taken, and gives the row as it is now: a named one joins the family of its
    /// name, if there is one.
    pub async fn insert_snapshot(&self, mut row: SavedCapture) -> Result<SavedCapture, StoreError> {
        self.run(move |db| {
            let transaction = db.transaction()?;
            if let Some(label) = &mut row.label
                && let Some(name) = &label.name
            {
                let family: Option<String> = transaction
                    .query_row(
                        "SELECT family FROM snapshots WHERE kind = 'named' AND name = ? LIMIT 1",
                        [name],
                        |found| found.get(0),
                    )
                    .optional()?;
                if let Some(family) = family.and_then(|text| SnapshotId::parse(&text)) {
                    label.family = family;
                }
            }
            let facts = row.known.as_ref().map(SavedFacts::of);
            let facts = facts.map(|f| serde_json::to_string(&f)).transpose()?;
            let (family, name, tag) = match &row.label {
                Some(label) => (Some(label.family.as_str()), &label.name, Some(&label.tag)),
                None => (None, &row.checkpoint, None),
            };
            transaction.execute(
                "INSERT INTO snapshots (id, kind, sandbox_id, memory, family, name, tag, facts, created_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    row.id.as_str(),
                    row.kind.name(),
                    row.sandbox.as_str(),
                    row.memory,
                    family,
                    name,
                    tag,
                    facts,
                    row.created_at.as_micros(),
                ],
            )?;
            transaction.commit()?;
            Ok(row)
        })
        .await
    }

    /// Says that a snapshot is about to be removed: nobody finds it any more.
    pub async fn retire_snapshot(&self, id: SnapshotId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute("UPDATE snapshots SET whole = 0 WHERE id = ?", [id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Says that a snapshot is there.
    pub async fn mark_whole(&self, id: SnapshotId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute("UPDATE snapshots SET whole = 1 WHERE id = ?", [id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Says that nothing is left of a snapshot.
    pub async fn remove_snapshot(&self, id: SnapshotId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute("DELETE FROM snapshots WHERE id = ?", [id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// All rows, oldest first.
    pub async fn snapshots(&self) -> Result<Vec<SavedCapture>, StoreError> {
        self.run(|db| {
            let mut statement = db.prepare_cached(&select("1"))?;
            let rows = statement.query_map([], read_row)?;
            Ok(rows
                .filter_map(Result::transpose)
                .collect::<Result<_, _>>()?)
        })
        .await
    }

    /// All rows of one sandbox, oldest first.
    pub async fn snapshots_of(&self, id: SandboxId) -> Result<Vec<SavedCapture>, StoreError> {
        self.run(move |db| {
            let mut statement = db.prepare_cached(&select("sandbox_id = ?"))?;
            let rows = statement.query_map([id.as_str()], read_row)?;
            Ok(rows
                .filter_map(Result::transpose)
                .collect::<Result<_, _>>()?)
        })
        .await
    }

    /// All named ones that are there, oldest first.
    pub async fn named_snapshots(&self) -> Result<Vec<SavedCapture>, StoreError> {
        self.run(|db| {
            let mut statement = db.prepare_cached(&select("kind = 'named' AND whole"))?;
            let rows = statement.query_map([], read_row)?;
            Ok(rows
                .filter_map(Result::transpose)
                .collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn select(which: &str) -> String {
    format!(
        "SELECT id, kind, sandbox_id, whole, memory, family, name, tag, facts, created_at FROM snapshots
         WHERE {which} ORDER BY created_at, rowid"
    )
}

/// Reads a row; `None` for one that this daemon could not have written.
fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<SavedCapture>> {
    let text = |index| row.get::<_, Option<String>>(index);
    let id = text(0)?.and_then(|id| SnapshotId::parse(&id));
    let kind = row.get_ref(1)?.as_str()?;
    let kind = Kind::ALL.iter().find(|(_, name)| *name == kind);
    let sandbox = text(2)?.and_then(|id| SandboxId::parse(&id));
    let (Some(id), Some((kind, _)), Some(sandbox)) = (id, kind, sandbox) else {
        return Ok(None);
    };
    let (name, tag) = (text(6)?, text(7)?);
    let family = text(5)?.and_then(|id| SnapshotId::parse(&id));
    let facts: Option<SavedFacts> = text(8)?.and_then(|json| serde_json::from_str(&json).ok());
    let label = family.zip(tag).map(|(family, tag)| Label {
        family,
        name: name.clone(),
        tag,
    });
    Ok(Some(SavedCapture {
        id,
        kind: *kind,
        sandbox,
        whole: row.get(3)?,
        memory: row.get(4)?,
        checkpoint: name.filter(|_| *kind == Kind::Checkpoint),
        label,
        known: facts.and_then(SavedFacts::known),
        created_at: Moment::from_micros(row.get(9)?),
    }))
}
