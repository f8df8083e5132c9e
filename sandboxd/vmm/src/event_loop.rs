//! The thread that runs devices: it waits for their eventfds and back-ends and calls them one after the other.

use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use event_manager::{
    EventManager, EventOps, EventSet, Events, MutEventSubscriber, RemoteEndpoint, SubscriberOps,
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::control::ExitReason;
use crate::devices::virtio::VirtioDevice;
use crate::exit::ExitCell;
use crate::seccomp::ThreadFilter;
use crate::sync::lock;

/// Stack of the thread, in bytes.
const STACK: usize = 512 * 1024;

/// Why the loop could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The thread or its eventfd could not be had.
    #[error("the event loop could not be started: {0}")]
    Start(#[from] io::Error),
    /// The poller could not be had, or does not take a device.
    #[error("the event loop's poller failed: {0}")]
    Poller(#[from] event_manager::Error),
    /// The thread could not be restricted.
    #[error("the kernel refused the system call filter of the event loop")]
    Filter,
}

type Subscriber = Box<dyn MutEventSubscriber>;

/// The running loop; dropping it ends it.
pub struct EventLoop {
    endpoint: RemoteEndpoint<Subscriber>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl EventLoop {
    /// Starts the loop, behind `filter` if there is one. A failure later on is left in `exit`.
    ///
    /// # Errors
    /// When the thread, the filter or a file descriptor cannot be had.
    pub fn start(exit: Arc<ExitCell>, filter: Option<&ThreadFilter>) -> Result<Self, LoopError> {
        let stop = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let wake = Arc::clone(&stop);
        let filter = filter.cloned();
        let (ready, started) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("devices".into())
            .stack_size(STACK)
            .spawn(move || {
                let _guard = Guard(&exit);
                // The manager is made here because it cannot move between threads.
                let mut manager = match EventManager::<Subscriber>::new() {
                    Ok(manager) => manager,
                    Err(error) => return drop(ready.send(Err(LoopError::Poller(error)))),
                };
                if !filter.is_none_or(|filter| filter.enter()) {
                    return drop(ready.send(Err(LoopError::Filter)));
                }
                let stopped = Arc::new(Mutex::new(false));
                manager.add_subscriber(Box::new(Stop {
                    wake,
                    stopped: Arc::clone(&stopped),
                }));
                let _ = ready.send(Ok(manager.remote_endpoint()));
                while !*lock(&stopped) {
                    if let Err(error) = manager.run() {
                        let words = format!("the event loop failed: {error}");
                        return exit.set(ExitReason::Error, &words);
                    }
                }
            })?;
        let died = || io::Error::other("the thread ended at once");
        Ok(Self {
            endpoint: started.recv().map_err(|_| died())??,
            stop,
            thread: Some(thread),
        })
    }

    /// Takes `devices` into the loop; returns when they are.
    ///
    /// # Errors
    /// When the loop has ended.
    pub fn add(&self, devices: Vec<Arc<Mutex<dyn VirtioDevice>>>) -> Result<(), LoopError> {
        let added = self.endpoint.call_blocking(move |manager| {
            for device in devices {
                manager.add_subscriber(Box::new(Locked(device)));
            }
            Ok::<(), event_manager::Error>(())
        });
        Ok(added?)
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A device as the loop sees it: locked for each call.
struct Locked(Arc<Mutex<dyn VirtioDevice>>);

impl MutEventSubscriber for Locked {
    fn init(&mut self, ops: &mut EventOps) {
        lock(&self.0).init(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        lock(&self.0).process(events, ops);
    }
}

/// Ends the loop.
struct Stop {
    wake: Arc<EventFd>,
    stopped: Arc<Mutex<bool>>,
}

impl MutEventSubscriber for Stop {
    fn init(&mut self, ops: &mut EventOps) {
        // A fresh eventfd in a fresh poller is always taken; were it not, the process could still be killed.
        let _ = ops.add(Events::new(&*self.wake, EventSet::IN));
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        *lock(&self.stopped) = true;
    }
}

/// Ends the machine when the thread panics.
struct Guard<'a>(&'a ExitCell);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set(ExitReason::Error, "the event loop failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_and_ends() {
        let exit = Arc::new(ExitCell::new().unwrap());
        let event_loop = EventLoop::start(Arc::clone(&exit), None).unwrap();
        event_loop.add(Vec::new()).unwrap();
        drop(event_loop);
        assert!(exit.get().is_none());
    }
}
