//! API keys of requests.
//!
//! Keys live in the store as SHA-256 hashes. The daemon keeps a copy that it reads again when it is older than a
//! second, so a key made or revoked by `sandboxd key` counts within that time. A presented key is hashed and compared
//! with every stored hash in constant time.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::App;
use super::error::ApiError;
use crate::ids::secret_hash;
use crate::store::{Store, StoreError};

/// Header that carries the key.
pub const API_KEY: &str = "x-api-key";

/// How long the copy of the keys is used.
const FRESH: Duration = Duration::from_secs(1);

/// The keys that count.
#[derive(Debug)]
pub struct KeyRing {
    store: Store,
    copy: RwLock<Option<(Instant, Vec<[u8; 32]>)>>,
}

impl KeyRing {
    /// The keys in a store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            copy: RwLock::new(None),
        }
    }

    /// Whether a key counts.
    pub async fn knows(&self, key: &str) -> Result<bool, StoreError> {
        let hash = secret_hash(key);
        if let Some(known) = self.in_copy(&hash) {
            return Ok(known);
        }
        let read_at = Instant::now();
        let hashes = self.store.keys().await?;
        let hashes = hashes
            .into_iter()
            .filter(|key| key.revoked_at.is_none())
            .map(|key| key.hash)
            .collect();
        *self.copy.write().unwrap_or_else(PoisonError::into_inner) = Some((read_at, hashes));
        Ok(self.in_copy(&hash).unwrap_or(false))
    }

    /// Looks into the copy; `None` when it is too old.
    fn in_copy(&self, hash: &[u8; 32]) -> Option<bool> {
        let copy = self.copy.read().unwrap_or_else(PoisonError::into_inner);
        let (read_at, hashes) = copy.as_ref()?;
        (read_at.elapsed() < FRESH).then(|| contains(hashes, hash))
    }
}

/// Compares with every hash, whichever matches.
fn contains(hashes: &[[u8; 32]], hash: &[u8; 32]) -> bool {
    let found = hashes.iter().fold(subtle::Choice::from(0), |found, known| {
        found | known.ct_eq(hash)
    });
    found.into()
}

/// Lets a request pass when its key counts.
pub async fn require(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let key = request
        .headers()
        .get(API_KEY)
        .and_then(|value| value.to_str().ok())
        .filter(|key| !key.is_empty());
    match key {
        Some(key) if app.keys.knows(key).await? => Ok(next.run(request).await),
        _ => Err(ApiError::Unauthorized),
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyRing, Store, contains, secret_hash};
    use crate::moment::Moment;
    use crate::store::keys::ApiKey;

    #[test]
    fn every_hash_is_compared() {
        let hashes: Vec<_> = ["a", "b", "c"].map(secret_hash).into();
        assert!(hashes.iter().all(|hash| contains(&hashes, hash)));
        assert!(!contains(&hashes, &secret_hash("d")));
        assert!(!contains(&[], &secret_hash("a")));
    }

    #[tokio::test]
    async fn a_revoked_key_stops_counting_within_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = ApiKey {
            id: "k".to_owned(),
            name: String::new(),
            hash: secret_hash("secret"),
            mask: String::new(),
            created_at: Moment::now(),
            revoked_at: None,
        };
        store.add_key(key).await.unwrap();
        let ring = KeyRing::new(store.clone());
        assert!(ring.knows("secret").await.unwrap());
        assert!(!ring.knows("other").await.unwrap());
        store
            .revoke_key("k".to_owned(), Moment::now())
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        assert!(!ring.knows("secret").await.unwrap());
    }
}
