//! API keys, stored as hashes.

use rusqlite::params;

use super::{Store, StoreError};
use crate::moment::Moment;

/// An API key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, for `key revoke`.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// First and last characters of the key.
    pub mask: String,
    /// When it was made.
    pub created_at: Moment,
    /// When it was revoked.
    pub revoked_at: Option<Moment>,
}

impl Store {
    /// Stores a new key.
    pub async fn add_key(&self, key: ApiKey) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "INSERT INTO api_keys (id, name, hash, mask, created_at) VALUES (?, ?, ?, ?, ?)",
                params![
                    key.id,
                    key.name,
                    key.hash,
                    key.mask,
                    key.created_at.as_micros()
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// All keys, oldest first, revoked ones too.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.run(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, name, hash, mask, created_at, revoked_at FROM api_keys ORDER BY created_at, id",
            )?;
            let keys = statement.query_map([], |row| {
                Ok(ApiKey {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    hash: row.get(2)?,
                    mask: row.get(3)?,
                    created_at: Moment::from_micros(row.get(4)?),
                    revoked_at: row.get::<_, Option<i64>>(5)?.map(Moment::from_micros),
                })
            })?;
            Ok(keys.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Revokes a key; `false` when there is no such key, or it was revoked before.
    pub async fn revoke_key(&self, id: String, now: Moment) -> Result<bool, StoreError> {
        self.run(move |db| {
            let changed = db.execute(
                "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
                params![now.as_micros(), id],
            )?;
            Ok(changed == 1)
        })
        .await
    }
}
