//! Creates that carry an `Idempotency-Key`, so that a repeated one creates nothing twice.
//!
//! ```text
//!   begin ──► Fresh ──► (create) ──┬─► finish: the answer is kept for a day
//!     │                            └─► abandon: the create failed, the key is free again
//!     ├──► Repeat(answer)      same key, same body, finished
//!     ├──► InProgress          same key, same body, not finished
//!     └──► Mismatch            same key, another body
//! ```

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};
use crate::ids::SandboxId;
use crate::moment::Moment;

/// How long an answer is kept, in microseconds: one day.
const KEPT: i64 = 86_400_000_000;

/// What to do about a create with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The key is new: create.
    Fresh,
    /// Answer this again.
    Repeat(String),
    /// The first request with this key is still under way.
    InProgress,
    /// The key was used with another body.
    Mismatch,
}

impl Store {
    /// Claims a key for the sandbox that is about to be created.
    pub async fn begin(
        &self,
        key: String,
        request: [u8; 32],
        sandbox: SandboxId,
        now: Moment,
    ) -> Result<Begin, StoreError> {
        self.run(move |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "DELETE FROM idempotency WHERE created_at < ? AND response IS NOT NULL",
                [now.as_micros().saturating_sub(KEPT)],
            )?;
            let known: Option<([u8; 32], Option<String>)> = transaction
                .query_row(
                    "SELECT request, response FROM idempotency WHERE key = ?",
                    [&key],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let begin = match known {
                Some((hash, _)) if hash != request => Begin::Mismatch,
                Some((_, Some(response))) => Begin::Repeat(response),
                Some((_, None)) => Begin::InProgress,
                None => {
                    transaction.execute(
                        "INSERT INTO idempotency (key, request, sandbox_id, created_at) VALUES (?, ?, ?, ?)",
                        params![key, request, sandbox.as_str(), now.as_micros()],
                    )?;
                    Begin::Fresh
                }
            };
            transaction.commit()?;
            Ok(begin)
        })
        .await
    }

    /// Keeps the answer.
    pub async fn finish(&self, key: String, response: String) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE idempotency SET response = ? WHERE key = ?",
                params![response, key],
            )?;
            Ok(())
        })
        .await
    }

    /// Frees a key whose create failed.
    pub async fn abandon(&self, key: String) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "DELETE FROM idempotency WHERE key = ? AND response IS NULL",
                [key],
            )?;
            Ok(())
        })
        .await
    }

    /// Frees all keys whose create an earlier daemon did not finish, and names their sandboxes: no client has been
    /// told about them.
    pub async fn abandon_unfinished(&self) -> Result<Vec<SandboxId>, StoreError> {
        self.run(|db| {
            let mut statement =
                db.prepare("DELETE FROM idempotency WHERE response IS NULL RETURNING sandbox_id")?;
            let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
            let ids = ids.collect::<Result<Vec<_>, _>>()?;
            Ok(ids.iter().filter_map(|id| SandboxId::parse(id)).collect())
        })
        .await
    }
}
