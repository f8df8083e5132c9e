//! Hands the output of one process to everybody who follows it, in constant memory.
//!
//! ```text
//!   pump ──publish──▶ hub ──▶ queue of ≤ 16 chunks ──▶ stream of subscriber 1
//!                         └─▶ queue of ≤ 16 chunks ──▶ stream of subscriber 2
//! ```
//!
//! Nothing is dropped silently. A full queue makes the publisher wait, so the process feels its slowest follower as
//! it would feel a slow terminal. A follower that takes nothing for [`STALL_LIMIT`] while output waits for it is cut
//! off: its stream ends with an error that says so, and the process goes on. Output that nobody follows is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Chunks that wait for one subscriber; of at most 32 KiB each, so at most 512 KiB.
pub const QUEUE_LEN: usize = 16;

/// Most subscribers of one process.
pub const MAX_SUBSCRIBERS: usize = 64;

/// How long output waits for a subscriber that takes nothing.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// From standard output.
    Stdout(Bytes),
    /// From standard error.
    Stderr(Bytes),
    /// From the terminal.
    Pty(Bytes),
}

/// Why nobody can subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The process already has {MAX_SUBSCRIBERS} followers.")]
pub struct TooManySubscribers;

/// The distributor of one process's output.
#[derive(Debug)]
pub struct Hub {
    stall_limit: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    closed: bool,
    next_id: u64,
    subscribers: Vec<Subscriber>,
}

#[derive(Clone, Debug)]
struct Subscriber {
    id: u64,
    queue: mpsc::Sender<Chunk>,
    lagged: Arc<AtomicBool>,
}

/// One follower's end.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::Receiver<Chunk>,
    lagged: Arc<AtomicBool>,
}

impl Subscription {
    /// The next chunk; `None` when the process has ended or this follower was cut off. Cancel-safe.
    pub async fn next(&mut self) -> Option<Chunk> {
        self.queue.recv().await
    }

    /// Whether this follower was cut off because it took nothing for too long.
    #[must_use]
    pub fn lagged(&self) -> bool {
        self.lagged.load(Ordering::Acquire)
    }
}

impl Hub {
    /// A hub without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::with_stall_limit(STALL_LIMIT)
    }

    fn with_stall_limit(stall_limit: Duration) -> Self {
        Self {
            stall_limit,
            inner: Mutex::default(),
        }
    }

    /// Follows the output from now on. After [`Hub::close`] the subscription is at its end at once.
    ///
    /// # Errors
    /// [`TooManySubscribers`].
    pub fn subscribe(&self) -> Result<Subscription, TooManySubscribers> {
        let mut inner = self.lock();
        inner
            .subscribers
            .retain(|subscriber| !subscriber.queue.is_closed());
        if inner.subscribers.len() >= MAX_SUBSCRIBERS {
            return Err(TooManySubscribers);
        }
        let (sender, queue) = mpsc::channel(QUEUE_LEN);
        let lagged = Arc::new(AtomicBool::new(false));
        if !inner.closed {
            let id = inner.next_id;
            inner.next_id += 1;
            inner.subscribers.push(Subscriber {
                id,
                queue: sender,
                lagged: Arc::clone(&lagged),
            });
        }
        Ok(Subscription { queue, lagged })
    }

    /// Gives `chunk` to every subscriber; waits for slow ones, each for at most the stall limit.
    pub async fn publish(&self, chunk: Chunk) {
        let subscribers = self.lock().subscribers.clone();
        let mut gone = Vec::new();
        let mut full = Vec::new();
        for subscriber in subscribers {
            match subscriber.queue.try_send(chunk.clone()) {
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => gone.push(subscriber.id),
                Err(TrySendError::Full(_)) => full.push(subscriber),
            }
        }
        let waits = full.iter().map(|subscriber| {
            let chunk = chunk.clone();
            async move {
                let sent = tokio::time::timeout(self.stall_limit, subscriber.queue.send(chunk));
                match sent.await {
                    Ok(Ok(())) => None,
                    Ok(Err(_closed)) => Some(subscriber.id),
                    Err(_elapsed) => {
                        subscriber.lagged.store(true, Ordering::Release);
                        Some(subscriber.id)
                    }
                }
            }
        });
        gone.extend(join_all(waits).await.into_iter().flatten());
        if !gone.is_empty() {
            self.lock()
                .subscribers
                .retain(|subscriber| !gone.contains(&subscriber.id));
        }
    }

    /// Ends every subscription once it has taken what waits for it.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.subscribers.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(n: usize) -> Chunk {
        Chunk::Stdout(Bytes::from(n.to_string()))
    }

    #[tokio::test]
    async fn every_subscriber_gets_everything_in_order() {
        let hub = Hub::new();
        let mut first = hub.subscribe().expect("room");
        hub.publish(chunk(0)).await;
        let mut second = hub.subscribe().expect("room");
        hub.publish(chunk(1)).await;
        hub.close();
        assert_eq!(first.next().await, Some(chunk(0)));
        assert_eq!(first.next().await, Some(chunk(1)));
        assert_eq!(first.next().await, None);
        assert_eq!(second.next().await, Some(chunk(1)));
        assert_eq!(second.next().await, None);
        assert!(!first.lagged() && !second.lagged());
        assert_eq!(hub.subscribe().expect("room").next().await, None);
    }

    #[tokio::test]
    async fn a_stalled_subscriber_is_cut_off_and_told() {
        let hub = Hub::with_stall_limit(Duration::from_millis(20));
        let mut stalled = hub.subscribe().expect("room");
        let mut good = hub.subscribe().expect("room");
        for n in 0..=QUEUE_LEN {
            hub.publish(chunk(n)).await;
            assert_eq!(good.next().await, Some(chunk(n)));
        }
        hub.publish(chunk(99)).await;
        assert_eq!(good.next().await, Some(chunk(99)));
        for n in 0..QUEUE_LEN {
            assert_eq!(stalled.next().await, Some(chunk(n)));
        }
        assert_eq!(stalled.next().await, None);
        assert!(stalled.lagged() && !good.lagged());
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_nothing() {
        let hub = Arc::new(Hub::new());
        let mut slow = hub.subscribe().expect("room");
        let publisher = Arc::clone(&hub);
        let task = tokio::spawn(async move {
            for n in 0..QUEUE_LEN * 3 {
                publisher.publish(chunk(n)).await;
            }
            publisher.close();
        });
        for n in 0..QUEUE_LEN * 3 {
            tokio::task::yield_now().await;
            assert_eq!(slow.next().await, Some(chunk(n)));
        }
        assert_eq!(slow.next().await, None);
        task.await.expect("published");
    }

    #[tokio::test]
    async fn subscribers_are_limited_and_leave_room() {
        let hub = Hub::new();
        let mut all: Vec<_> = (0..MAX_SUBSCRIBERS)
            .map(|_| hub.subscribe().expect("room"))
            .collect();
        assert_eq!(hub.subscribe().err(), Some(TooManySubscribers));
        all.pop();
        assert!(hub.subscribe().is_ok());
    }

    proptest! {
        #[test]
        fn any_interleaving_keeps_order(takes in proptest::collection::vec(0usize..4, 0..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let hub = Hub::new();
                let mut subscription = hub.subscribe().expect("room");
                let (mut sent, mut taken) = (0, 0);
                for take in takes {
                    if sent - taken < QUEUE_LEN {
                        hub.publish(chunk(sent)).await;
                        sent += 1;
                    }
                    for _ in 0..take.min(sent - taken) {
                        prop_assert_eq!(subscription.next().await, Some(chunk(taken)));
                        taken += 1;
                    }
                }
                hub.close();
                while taken < sent {
                    prop_assert_eq!(subscription.next().await, Some(chunk(taken)));
                    taken += 1;
                }
                prop_assert_eq!(subscription.next().await, None);
                Ok(())
            })?;
        }
    }
}
