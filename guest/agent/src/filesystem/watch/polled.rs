//! Watchers that are asked: CreateWatcher, GetWatcherEvents, RemoveWatcher.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Watcher;
use super::event::Event;
use super::tree::Request;
use crate::filesystem::error::FilesystemError;
use crate::users::UserDb;

/// The most watchers at a time. Clients that never remove theirs meet it.
const MAX_WATCHERS: usize = 512;
/// The most events a watcher keeps for its client.
const MAX_QUEUED: usize = 65_536;

/// All polled watchers, by id.
#[derive(Debug, Default)]
pub struct Registry {
    watchers: Mutex<HashMap<String, Arc<Polled>>>,
}

#[derive(Debug)]
struct Polled {
    watcher: Arc<Watcher>,
    queue: Arc<Mutex<Queue>>,
    /// Held over drain and queueing, so that batches queue in the order they were drained.
    order: Arc<tokio::sync::Mutex<()>>,
    task: JoinHandle<()>,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Events waiting for the client, and whether some were lost since it last asked.
#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    failure: Option<FilesystemError>,
}

impl Queue {
    fn push(&mut self, batch: Result<Vec<Event>, FilesystemError>) {
        match batch {
            _ if self.failure.is_some() => {}
            Ok(events) if self.events.len() + events.len() <= MAX_QUEUED => {
                self.events.extend(events);
            }
            Ok(_) => self.fail(FilesystemError::EventsLost),
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: FilesystemError) {
        self.events.clear();
        self.failure = Some(error);
    }

    fn take(&mut self) -> Result<Vec<Event>, FilesystemError> {
        match self.failure.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut self.events).into()),
        }
    }
}

impl Registry {
    /// Starts a watcher and returns its id.
    ///
    /// # Errors
    /// As [`Watcher::open`]; [`FilesystemError::TooManyWatches`] when too many are open.
    pub async fn create(
        &self,
        request: Request,
        allow_network_mounts: bool,
        users: UserDb,
    ) -> Result<String, FilesystemError> {
        if self.lock().len() >= MAX_WATCHERS {
            return Err(FilesystemError::TooManyWatches(
                "512 polled watchers are open; remove those that are done with",
            ));
        }
        let watcher = Arc::new(Watcher::open(request, allow_network_mounts, users).await?);
        let queue = Arc::new(Mutex::new(Queue::default()));
        let order = Arc::new(tokio::sync::Mutex::new(()));
        let task = tokio::spawn(follow(watcher.clone(), queue.clone(), order.clone()));
        let id = format!("w{}", Uuid::new_v4().simple());
        self.lock().insert(
            id.clone(),
            Arc::new(Polled {
                watcher,
                queue,
                order,
                task,
            }),
        );
        Ok(id)
    }

    /// Everything that happened since the last call.
    ///
    /// # Errors
    /// [`FilesystemError::UnknownWatcher`]; [`FilesystemError::EventsLost`] once when some were.
    pub async fn take(&self, id: &str) -> Result<Vec<Event>, FilesystemError> {
        let polled = self.lock().get(id).cloned();
        let polled = polled.ok_or_else(|| FilesystemError::UnknownWatcher(id.to_owned()))?;
        let _order = polled.order.lock().await;
        let batch = polled.watcher.drain().await;
        let mut queue = polled.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(batch);
        queue.take()
    }

    /// Ends a watcher.
    ///
    /// # Errors
    /// [`FilesystemError::UnknownWatcher`].
    pub fn remove(&self, id: &str) -> Result<(), FilesystemError> {
        match self.lock().remove(id) {
            Some(_) => Ok(()),
            None => Err(FilesystemError::UnknownWatcher(id.to_owned())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Polled>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the kernel's queue short between polls.
async fn follow(
    watcher: Arc<Watcher>,
    queue: Arc<Mutex<Queue>>,
    order: Arc<tokio::sync::Mutex<()>>,
) {
    loop {
        if watcher.readable().await.is_err() {
            return;
        }
        let _order = order.lock().await;
        let batch = watcher.drain().await;
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Change;
    use super::*;
    use std::fs;
    use std::time::{Duration, Instant};

    fn request(path: &std::path::Path, recursive: bool) -> Request {
        Request {
            path: path.into(),
            recursive,
            include_entry: false,
        }
    }

    #[tokio::test]
    async fn a_poll_right_after_a_change_has_it_and_the_next_one_has_not() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::default();
        let id = registry
            .create(request(dir.path(), false), false, UserDb::default())
            .await
            .unwrap();
        for round in 0..20 {
            let name = format!("f{round}");
            fs::write(dir.path().join(&name), b"").unwrap();
            let events = registry.take(&id).await.unwrap();
            assert_eq!(events.len(), 1, "{events:?}");
            assert_eq!(
                (events[0].name.as_str(), events[0].change),
                (&*name, Change::Create)
            );
            assert_eq!(registry.take(&id).await.unwrap(), []);
        }
        registry.remove(&id).unwrap();
        let error = registry.take(&id).await.unwrap_err();
        assert!(
            matches!(error, FilesystemError::UnknownWatcher(_)),
            "{error}"
        );
        assert!(registry.remove(&id).is_err());
    }

    #[tokio::test]
    async fn new_directories_are_watched_between_polls() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::default();
        let id = registry
            .create(request(dir.path(), true), false, UserDb::default())
            .await
            .unwrap();
        fs::create_dir(dir.path().join("n")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let polled = registry.lock().get(&id).cloned().unwrap();
        while polled.queue.lock().unwrap().events.is_empty() {
            assert!(
                Instant::now() < deadline,
                "the directory is noticed without a poll"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fs::write(dir.path().join("n/f"), b"").unwrap();
        let events = registry.take(&id).await.unwrap();
        let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["n", "n/f"]);
    }

    #[test]
    fn a_queue_that_overflows_says_so_once_and_goes_on() {
        let event = Event {
            name: "f".into(),
            change: Change::Write,
            entry: None,
        };
        let mut queue = Queue::default();
        queue.push(Ok(vec![event.clone(); MAX_QUEUED]));
        queue.push(Ok(vec![event.clone()]));
        queue.push(Ok(vec![event.clone()]));
        assert!(matches!(queue.take(), Err(FilesystemError::EventsLost)));
        assert_eq!(queue.take().unwrap(), []);
        queue.push(Ok(vec![event.clone()]));
        assert_eq!(queue.take().unwrap(), [event]);
    }
}
