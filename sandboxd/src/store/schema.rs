//! Versions of the store's schema. Each entry brings the file from its index to the next version; entries are never
//! changed once released, only added.

use std::path::Path;

use rusqlite::Connection;

use super::StoreError;

/// Marks the file as ours (SQLite header, `application_id`): "sbxd".
const APPLICATION_ID: i64 = 0x7362_7864;

pub(super) const VERSIONS: [&str; 2] = [
    "
    CREATE TABLE api_keys (
        id         TEXT PRIMARY KEY,
        name       TEXT NOT NULL,
        hash       BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
        mask       TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        revoked_at INTEGER
    ) STRICT;
    CREATE TABLE sandboxes (
        id         TEXT PRIMARY KEY,
        phase      TEXT NOT NULL CHECK (phase IN ('creating', 'running', 'stopping')),
        facts      TEXT NOT NULL,
        pid        INTEGER,
        start_time INTEGER,
        slot       INTEGER,
        started_at INTEGER,
        end_at     INTEGER
    ) STRICT;
    CREATE TABLE idempotency (
        key        TEXT PRIMARY KEY,
        request    BLOB NOT NULL,
        sandbox_id TEXT NOT NULL,
        response   TEXT,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE events (
        seq        INTEGER PRIMARY KEY,
        sandbox_id TEXT NOT NULL,
        at         INTEGER NOT NULL,
        name       TEXT NOT NULL,
        detail     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_sandbox ON events (sandbox_id, at);
    CREATE TABLE template_use (
        template_id     TEXT PRIMARY KEY,
        spawn_count     INTEGER NOT NULL,
        last_spawned_at INTEGER NOT NULL
    ) STRICT;
",
    // A CHECK cannot be changed in place: the table is made anew.
    "
    CREATE TABLE sandboxes_2 (
        id         TEXT PRIMARY KEY,
        phase      TEXT NOT NULL CHECK (phase IN
            ('creating', 'running', 'capturing', 'rolling_back', 'pausing', 'paused', 'resuming', 'stopping')),
        facts      TEXT NOT NULL,
        pid        INTEGER,
        start_time INTEGER,
        slot       INTEGER,
        started_at INTEGER,
        since      INTEGER,
        end_at     INTEGER,
        snapshot   TEXT,
        memory     INTEGER
    ) STRICT;
    INSERT INTO sandboxes_2 (id, phase, facts, pid, start_time, slot, started_at, since, end_at)
        SELECT id, phase, facts, pid, start_time, slot, started_at, started_at, end_at FROM sandboxes;
    DROP TABLE sandboxes;
    ALTER TABLE sandboxes_2 RENAME TO sandboxes;
    CREATE TABLE snapshots (
        id         TEXT PRIMARY KEY,
        kind       TEXT NOT NULL CHECK (kind IN ('pause', 'fork', 'checkpoint', 'named')),
        sandbox_id TEXT NOT NULL,
        whole      INTEGER NOT NULL DEFAULT 0,
        memory     INTEGER NOT NULL,
        family     TEXT,
        name       TEXT,
        tag        TEXT,
        facts      TEXT,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX snapshots_by_sandbox ON snapshots (sandbox_id, kind);
    CREATE INDEX snapshots_by_family ON snapshots (family) WHERE family IS NOT NULL;
",
];

/// Brings a file to the newest version, one transaction per step.
pub fn bring_up_to_date(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX);
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Some(rest) = usize::try_from(version)
        .ok()
        .and_then(|v| VERSIONS.get(v..))
    else {
        return Err(StoreError::TooNew {
            path: path.to_owned(),
            found: version,
            known,
        });
    };
    for (step, next) in rest.iter().zip(version + 1..) {
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Another process may have taken this step while this one waited.
        let now: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if now < next {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", next)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        transaction.commit()?;
    }
    Ok(())
}
