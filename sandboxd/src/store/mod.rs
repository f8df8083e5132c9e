//! What the daemon remembers: one SQLite file, written by one thread.
//!
//! ```text
//!   async code ──[Store::run(closure)]──► queue ──► store thread (owns the connection) ──► oneshot back
//! ```
//!
//! | table | holds |
//! |---|---|
//! | `api_keys` | hashes of API keys |
//! | `sandboxes` | one row per sandbox that is not known to be gone |
//! | `snapshots` | one row per snapshot of a sandbox that is not known to be gone |
//! | `idempotency` | answers to creates that carried an `Idempotency-Key` |
//! | `events` | what happened to sandboxes, the newest of them |
//! | `template_use` | how often and when each template was last used |
//!
//! Ordering rule, intent before action: a row says what is *about* to be done before it is done (`creating` before the
//! process starts, `pausing` before the snapshot is taken, `stopping` before the signal is sent) and goes away only
//! after everything it names is gone. So whatever instant the daemon dies at, the rows name everything that may be left.
//!
//! The journal is a write-ahead log with `synchronous=NORMAL`: a commit survives the daemon being killed; after a
//! power loss the newest may be missing, and so are the machines they would have named.

pub mod captures;
pub mod events;
pub mod facts;
pub mod idempotency;
pub mod keys;
pub mod sandboxes;
mod schema;

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("The store {path} cannot be opened: {error}.")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// SQLite failed.
    #[error("The store failed: {0}.")]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a newer daemon.
    #[error(
        "The store {path} has schema version {found}, and this daemon knows versions up to {known}: start the newer \
         daemon, or name another state folder with --state-dir."
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// A stored value cannot be read.
    #[error("A stored value cannot be read: {0}.")]
    Value(#[from] serde_json::Error),
    /// The store's thread has ended.
    #[error("The store has stopped.")]
    Stopped,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Handle to the store's thread; cheap to clone. The thread ends with the last handle.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

/// Name of the file in the state folder.
pub const FILE: &str = "sandboxd.db";

impl Store {
    /// Opens (and makes or brings up to date) the store in a state folder.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        // Made here so that it is private from its first byte on.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::Open {
                path: path.clone(),
                error,
            })?;
        let mut connection = Connection::open(&path)?;
        // Another process (`sandboxd key`) may be writing.
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        schema::bring_up_to_date(&mut connection, &path)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                for job in queue {
                    job(&mut connection);
                }
            })
            .map_err(|error| StoreError::Open { path, error })?;
        Ok(Self { jobs })
    }

    /// Puts a closure on the store's queue at once, and gives its result later. It runs to its end even when the caller
    /// stops waiting.
    fn run<T, J>(&self, job: J) -> impl Future<Output = Result<T, StoreError>> + Send + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _ = answer.send(job(connection));
        });
        // A thread that has ended drops the job, and the answer's sender with it.
        let _ = self.jobs.send(job);
        async move { result.await.map_err(|_| StoreError::Stopped)? }
    }
}

#[cfg(test)]
mod tests;
