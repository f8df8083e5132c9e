//! Watches on directories, streamed or polled.
//!
//! ```text
//!              ┌────────── Watcher ───────────┐
//!  inotify ──► │ Tree (blocking) behind a lock │──► next()  one batch as it comes   (WatchDir)
//!              └──────────────────────────────┘
//!  Polled: a task takes batches as they come, so that new directories are watched at once, into a bounded
//!  queue; take() drains the kernel's queue itself first, so that a change made before the call is in.
//! ```
//!
//! When events are lost, because the kernel's queue or ours overflowed, the reader is told by
//! [`FilesystemError::EventsLost`]: a stream ends with it, a poll answers it once and goes on from there.

pub mod event;
pub mod network;
pub mod polled;
mod ready;
pub mod tree;

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use self::event::Event;
use self::ready::Ready;
use self::tree::{Request, Tree};
use super::error::FilesystemError;
use crate::users::UserDb;

/// An open watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watcher {
    tree: Arc<Mutex<Tree>>,
    ready: Ready,
}

impl Watcher {
    /// Starts watching `path`, which may be reached through links.
    ///
    /// # Errors
    /// Not found, not a directory, a network mount that was not allowed, or no watches left.
    pub async fn open(
        mut request: Request,
        allow_network_mounts: bool,
        users: UserDb,
    ) -> Result<Self, FilesystemError> {
        let asked = request.path.clone();
        let tree = blocking(&asked, move || {
            request.path = super::operations::resolve_directory(&request.path)?;
            if !allow_network_mounts && network::is_network_mount(&request.path)? {
                return Err(FilesystemError::NetworkMount(request.path));
            }
            Tree::open(request, users)
        })
        .await?;
        let failed = |error| FilesystemError::io("watch", &asked, error);
        let ready = tree.as_fd().try_clone_to_owned().map_err(failed)?;
        let ready = Ready::new(ready).map_err(failed)?;
        Ok(Self {
            tree: Arc::new(Mutex::new(tree)),
            ready,
        })
    }

    /// The next changes, as soon as there are any.
    ///
    /// # Errors
    /// [`FilesystemError::EventsLost`], or a tree that has outgrown the limits.
    pub async fn next(&self) -> Result<Vec<Event>, FilesystemError> {
        loop {
            self.readable().await?;
            let events = self.drain().await?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Waits until the kernel has something queued.
    ///
    /// # Errors
    /// Only when the runtime is shutting down.
    pub async fn readable(&self) -> Result<(), FilesystemError> {
        let failed = |error| FilesystemError::io("watch", Path::new("inotify"), error);
        self.ready.readable().await.map_err(failed)
    }

    /// The changes up to now.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub async fn drain(&self) -> Result<Vec<Event>, FilesystemError> {
        let tree = Arc::clone(&self.tree);
        blocking(Path::new("inotify"), move || {
            tree.lock().unwrap_or_else(PoisonError::into_inner).drain()
        })
        .await
    }
}

/// Runs `work` off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, FilesystemError> + Send + 'static,
) -> Result<T, FilesystemError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(FilesystemError::io(
                "finish the work on",
                path,
                std::io::Error::other(error),
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::event::Change;
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_batch_comes_without_being_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let request = Request {
            path: dir.path().into(),
            recursive: false,
            include_entry: false,
        };
        let watcher = Watcher::open(request, false, UserDb::default())
            .await
            .unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(50), watcher.next()).await;
        assert!(quiet.is_err(), "nothing happened yet");
        std::fs::write(dir.path().join("f"), b"").unwrap();
        let events = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await;
        let events = events.expect("an event within ten seconds").unwrap();
        assert_eq!(events[0].name, "f");
        assert_eq!(events[0].change, Change::Create);
    }

    #[tokio::test]
    async fn files_are_not_watched() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let request = Request {
            path: file.path().into(),
            recursive: false,
            include_entry: false,
        };
        let error = Watcher::open(request, false, UserDb::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error, FilesystemError::NotADirectory(_)),
            "{error}"
        );
    }
}
