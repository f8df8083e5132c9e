//! Which request a kernel's message belongs to.
//!
//! At most 64 MiB of messages wait for a client that does not read them; then the sockets are read no further, and
//! the kernel is slowed down by its own queues.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::interpreter::jupyter::connection::MAX_MESSAGE;
use crate::interpreter::jupyter::message::Message;
use crate::interpreter::progress::Channel;

/// The unit of the budget, so that it counts in 32 bits.
const BUDGET_UNIT: usize = 1024;

/// A message for one request.
#[derive(Debug)]
pub struct Reply {
    /// Which socket it came from.
    pub channel: Channel,
    /// The message.
    pub message: Message,
    /// Frees its part of the budget when the reply has been dealt with.
    pub budget: OwnedSemaphorePermit,
}

/// The messages for one request. Dropping it drops what still comes.
#[derive(Debug)]
pub struct Replies {
    receiver: mpsc::UnboundedReceiver<Reply>,
    id: String,
    routes: Arc<Routes>,
}

impl Replies {
    /// The next message; `None` when the kernel has ended.
    pub async fn next(&mut self) -> Option<Reply> {
        self.receiver.recv().await
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.routes.lock().remove(&self.id);
    }
}

/// Senders by message id. Closed when the kernel has ended.
#[derive(Debug)]
pub struct Routes {
    table: Mutex<HashMap<String, mpsc::UnboundedSender<Reply>>>,
    budget: Arc<Semaphore>,
    closed: watch::Sender<bool>,
}

impl Routes {
    /// No routes, all of the budget.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            budget: Arc::new(Semaphore::new(MAX_MESSAGE / BUDGET_UNIT)),
            closed: watch::Sender::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<Reply>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A route for the request of that id. On a kernel that has ended, it ends at once.
    pub fn open(self: &Arc<Self>, id: &str) -> Replies {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut table = self.lock();
        if !*self.closed.borrow() {
            table.insert(id.to_owned(), sender);
        }
        drop(table);
        Replies {
            receiver,
            id: id.to_owned(),
            routes: Arc::clone(self),
        }
    }

    /// Waits until there is room, so that a client that does not read slows its kernel down.
    pub async fn deliver(&self, channel: Channel, message: Message) {
        if !self.lock().contains_key(&message.parent_id) {
            return;
        }
        let size = (message.size / BUDGET_UNIT + 1).min(MAX_MESSAGE / BUDGET_UNIT);
        let size = u32::try_from(size).unwrap_or(1);
        let Ok(budget) = Arc::clone(&self.budget).acquire_many_owned(size).await else {
            return;
        };
        let route = self.lock().get(&message.parent_id).cloned();
        if let Some(route) = route {
            // The receiver may be gone by now, and its message with it.
            let _ = route.send(Reply {
                channel,
                message,
                budget,
            });
        }
    }

    /// Ends all routes, for ever.
    pub fn close(&self) {
        let mut table = self.lock();
        self.closed.send_replace(true);
        table.clear();
    }

    /// Waits until [`Routes::close`] has been called.
    pub async fn closed(&self) {
        // The sender lives as long as this value.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::jupyter::message::Header;
    use serde_json::Value;
    use std::time::Duration;

    fn message(parent: &str, size: usize) -> Message {
        Message {
            header: Header::default(),
            parent_id: parent.to_owned(),
            content: Value::Null,
            cut: false,
            size,
        }
    }

    #[tokio::test]
    async fn messages_reach_their_request_and_no_other() {
        let routes = Routes::new();
        let (mut a, mut b) = (routes.open("a"), routes.open("b"));
        routes.deliver(Channel::Iopub, message("a", 1)).await;
        routes.deliver(Channel::Shell, message("nobody", 1)).await;
        assert_eq!(a.next().await.unwrap().channel, Channel::Iopub);
        routes.close();
        assert!(a.next().await.is_none() && b.next().await.is_none());
        assert!(routes.open("c").next().await.is_none(), "closed for ever");
        routes.closed().await;
    }

    #[tokio::test]
    async fn a_slow_client_holds_its_kernel_back() {
        let routes = Routes::new();
        let mut slow = routes.open("a");
        for _ in 0..2 {
            routes
                .deliver(Channel::Iopub, message("a", MAX_MESSAGE / 2 - BUDGET_UNIT))
                .await;
        }
        let third = routes.deliver(Channel::Iopub, message("a", BUDGET_UNIT));
        tokio::pin!(third);
        let held = tokio::time::timeout(Duration::from_millis(50), &mut third).await;
        assert!(held.is_err(), "the budget is used up");
        drop(slow.next().await);
        tokio::time::timeout(Duration::from_secs(10), third)
            .await
            .expect("room again");
    }

    #[tokio::test]
    async fn even_the_largest_message_fits() {
        let routes = Routes::new();
        let mut replies = routes.open("a");
        routes
            .deliver(Channel::Iopub, message("a", 10 * MAX_MESSAGE))
            .await;
        assert!(replies.next().await.is_some());
    }
}
