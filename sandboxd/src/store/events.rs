//! What happened to sandboxes, and how templates are used.

use std::collections::HashMap;

use rusqlite::params;

use super::{Store, StoreError};
use crate::ids::SandboxId;
use crate::moment::Moment;

/// Events kept over all sandboxes.
const KEPT: i64 = 100_000;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// What, for programs.
    pub name: String,
    /// What, for people.
    pub detail: String,
}

/// Use of one template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateUse {
    /// Sandboxes made from it.
    pub spawn_count: i64,
    /// When the last was.
    pub last_spawned_at: Moment,
}

impl Store {
    /// Records an event; the oldest give way.
    pub async fn record(&self, id: SandboxId, event: Event) -> Result<(), StoreError> {
        self.run(move |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "INSERT INTO events (sandbox_id, at, name, detail) VALUES (?, ?, ?, ?)",
                params![id.as_str(), event.at.as_micros(), event.name, event.detail],
            )?;
            transaction.execute(
                "DELETE FROM events WHERE seq <= ?",
                [transaction.last_insert_rowid() - KEPT],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Events of one sandbox at or after `from`, oldest first, at most `limit`.
    pub async fn events(
        &self,
        id: SandboxId,
        from: Moment,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.run(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT at, name, detail FROM events WHERE sandbox_id = ? AND at >= ? ORDER BY seq LIMIT ?",
            )?;
            let events = statement.query_map(params![id.as_str(), from.as_micros(), limit], |row| {
                Ok(Event {
                    at: Moment::from_micros(row.get(0)?),
                    name: row.get(1)?,
                    detail: row.get(2)?,
                })
            })?;
            Ok(events.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Use of all templates by id.
    pub async fn template_use(&self) -> Result<HashMap<String, TemplateUse>, StoreError> {
        self.run(|db| {
            let mut statement = db.prepare_cached(
                "SELECT template_id, spawn_count, last_spawned_at FROM template_use",
            )?;
            let rows = statement.query_map([], |row| {
                let used = TemplateUse {
                    spawn_count: row.get(1)?,
                    last_spawned_at: Moment::from_micros(row.get(2)?),
                };
                Ok((row.get(0)?, used))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}
