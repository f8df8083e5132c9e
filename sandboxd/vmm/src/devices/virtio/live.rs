//! A queue between `activate` and `reset`, and the events that drive it.
//!
//! ```text
//!            pop ──► Chain ──► used(head, len) ─┐
//!   ready ────┤                                 ├──► signal: one interrupt for the batch, if the driver wants it
//!             └──► Empty ──► rearm ─────────────┘
//!   ready ── ring the guest broke ──► broken: DEVICE_NEEDS_RESET raised once, every later call finds it empty
//! ```
//!
//! Ordering rules:
//! 1. Work per event is bounded. Who stops with chains still in the ring either kicks the queue's own event, so that the
//!    loop comes back after it has served the other devices, or waits for another event of its own; nobody spins.
//! 2. `rearm` comes right after the `pop` that found nothing, and before any `unpop`: it asks for a notification behind the
//!    last chain that was taken. When it answers true, chains slipped in between.
//! 3. `signal` comes last.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event_manager::{EventOps, EventSet, Events};
use tracing::{debug, error, warn};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::chain::{Chain, ChainError, Limits};
use super::queue_state::QueueState;
use super::{ActivateError, Activation, GuestMemory, Interrupt};

/// What [`LiveQueue::pop`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Popped {
    /// Nothing is available, or the ring is broken.
    Empty,
    /// A chain that passed every check.
    Chain,
    /// A chain that broke a rule; it has been given back with length zero.
    Malformed(ChainError),
}

/// What a device did with a chain in [`LiveQueue::drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give the chain back with `written` bytes in its writable part. The work cost `cost` units of the budget.
    Used {
        /// Bytes written to the writable part.
        written: u32,
        /// Share of the budget; at least 1 is taken.
        cost: u64,
    },
    /// Leave the chain in the ring and stop; the device comes back on an event of its own.
    Later,
}

/// Why [`LiveQueue::drain`] ended, and what it met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Chains given back because they broke a rule.
    pub malformed: u64,
    /// Whether the budget ran out with the ring perhaps not empty; the queue's event has then been kicked.
    pub out_of_budget: bool,
    /// Whether the device answered [`Step::Later`].
    pub postponed: bool,
}

/// A queue that the driver has handed over.
pub struct LiveQueue {
    queue: Queue,
    memory: Arc<GuestMemory>,
    interrupt: Arc<dyn Interrupt>,
    event: Arc<EventFd>,
    broken: bool,
    unsignalled: bool,
}

impl LiveQueue {
    /// Takes the `N` queues of an activation.
    ///
    /// # Errors
    /// When the activation holds another number of queues or events.
    pub fn take<const N: usize>(activation: Activation) -> Result<[Self; N], ActivateError> {
        let Activation {
            memory,
            queues,
            queue_events,
            interrupt,
            ..
        } = activation;
        let got = queues.len().min(queue_events.len());
        let queues: Vec<Self> = queues
            .into_iter()
            .zip(queue_events)
            .map(|(queue, event)| Self {
                // A queue that the driver left out is like one that never has anything.
                broken: !queue.ready(),
                queue,
                memory: Arc::clone(&memory),
                interrupt: Arc::clone(&interrupt),
                event,
                unsignalled: false,
            })
            .collect();
        queues
            .try_into()
            .map_err(|_| ActivateError::QueueCount { want: N, got })
    }

    /// Where the queue stands, for a snapshot; only meaningful between events.
    pub fn state(&self) -> QueueState {
        QueueState::of(&self.queue)
    }

    /// Guest memory behind the queue.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Takes the next available chain into `chain`.
    pub fn pop(&mut self, limits: Limits, chain: &mut Chain) -> Popped {
        let Some(head) = self.next_head() else {
            return Popped::Empty;
        };
        let table = GuestAddress(self.queue.desc_table());
        match chain.walk(&self.memory, table, self.queue.size(), head, limits) {
            Ok(()) => Popped::Chain,
            Err(why) => {
                debug!(head, %why, "a malformed chain is given back");
                self.used(head, 0);
                Popped::Malformed(why)
            }
        }
    }

    /// Puts the chain that was popped last back into the ring.
    pub fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives a chain back to the driver with `written` bytes in its writable part.
    pub fn used(&mut self, head: u16, written: u32) {
        if self.broken {
            return;
        }
        match self.queue.add_used(&*self.memory, head, written) {
            Ok(()) => self.unsignalled = true,
            Err(why) => self.give_up(&why),
        }
    }

    /// Asks the driver to notify again; true when chains are available already.
    pub fn rearm(&mut self) -> bool {
        if self.broken {
            return false;
        }
        self.queue
            .enable_notification(&*self.memory)
            .unwrap_or_else(|why| {
                self.give_up(&why);
                false
            })
    }

    /// Index behind the last chain that the driver made available.
    pub fn end(&self) -> u16 {
        let end = self.queue.avail_idx(&*self.memory, Ordering::Acquire);
        end.map_or(self.queue.next_avail(), |end| end.0)
    }

    /// Asks the driver to notify when it adds a chain behind all those that are there, and says where that is.
    pub fn watch_end(&mut self) -> u16 {
        let next = self.queue.next_avail();
        loop {
            let end = self.end();
            self.queue.set_next_avail(end);
            let more = self.rearm();
            self.queue.set_next_avail(next);
            if !more {
                return end;
            }
        }
    }

    /// Asks the driver not to notify while the queue is being served anyway.
    pub fn disarm(&mut self) {
        if !self.broken
            && let Err(why) = self.queue.disable_notification(&*self.memory)
        {
            self.give_up(&why);
        }
    }

    /// Interrupts the driver if chains were given back since the last call and it asked to know.
    pub fn signal(&mut self) {
        if !std::mem::take(&mut self.unsignalled) || self.broken {
            return;
        }
        match self.queue.needs_notification(&*self.memory) {
            Ok(true) => self.interrupt.used(),
            Ok(false) => {}
            Err(why) => self.give_up(&why),
        }
    }

    /// Fires the queue's own event, so that the event loop comes back to it after the other devices.
    pub fn kick(&self) {
        if let Err(why) = self.event.write(1) {
            // Only a full counter can refuse, and then the event is pending anyway.
            debug!(%why, "the queue event is pending already");
        }
    }

    /// Serves available chains with `serve` until there is none left, the `budget` is used up or `serve` postpones.
    pub fn drain(
        &mut self,
        limits: Limits,
        chain: &mut Chain,
        mut budget: u64,
        mut serve: impl FnMut(&GuestMemory, &Chain) -> Step,
    ) -> Drained {
        let mut drained = Drained::default();
        self.disarm();
        loop {
            if budget == 0 {
                drained.out_of_budget = true;
                self.kick();
                break;
            }
            let cost = match self.pop(limits, chain) {
                Popped::Empty if self.rearm() => 1,
                Popped::Empty => break,
                Popped::Malformed(_) => {
                    drained.malformed += 1;
                    1
                }
                Popped::Chain => match serve(&self.memory, chain) {
                    Step::Used { written, cost } => {
                        self.used(chain.head, written);
                        cost.max(1)
                    }
                    Step::Later => {
                        self.unpop();
                        drained.postponed = true;
                        break;
                    }
                },
            };
            budget = budget.saturating_sub(cost);
        }
        self.signal();
        drained
    }

    fn next_head(&mut self) -> Option<u16> {
        if self.broken {
            return None;
        }
        let popped = self
            .queue
            .iter(&*self.memory)
            .map(|mut chains| chains.next());
        match popped {
            Ok(next) => next.map(|chain| chain.head_index()),
            Err(why) => {
                self.give_up(&why);
                None
            }
        }
    }

    fn give_up(&mut self, why: &virtio_queue::Error) {
        warn!(%why, "the driver broke a ring; the device waits for a reset");
        self.broken = true;
        self.interrupt.needs_reset();
    }
}

/// Which event of a device fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The device was activated; every queue deserves a look.
    Activated,
    /// The driver notified this queue.
    Queue(usize),
    /// An event that the device registered itself.
    Other(RawFd),
}

/// The activate event and the queue events of one device in the event loop. Queue events are added at the first
/// activation and stay; those of an inactive device are drained and mean nothing.
pub struct Watch {
    activate: EventFd,
    queues: Vec<Arc<EventFd>>,
    registered: usize,
}

impl Watch {
    /// Makes the activate event.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> std::io::Result<Self> {
        let activate = EventFd::new(EFD_NONBLOCK)?;
        Ok(Self {
            activate,
            queues: Vec::new(),
            registered: 0,
        })
    }

    /// The event that an activation writes.
    pub fn activate_event(&self) -> &EventFd {
        &self.activate
    }

    /// Notes the queue events of an activation and wakes the event loop.
    ///
    /// # Errors
    /// When the activate event cannot be written.
    pub fn activate(&mut self, queue_events: &[Arc<EventFd>]) -> std::io::Result<()> {
        if self.queues.is_empty() {
            self.queues = queue_events.to_vec();
        }
        self.activate.write(1)
    }

    /// Registers the activate event; for `MutEventSubscriber::init`.
    pub fn init(&self, ops: &mut EventOps) {
        add(ops, self.activate.as_raw_fd());
    }

    /// Tells which event fired and drains it; for the head of `MutEventSubscriber::process`.
    pub fn source(&mut self, events: &Events, ops: &mut EventOps) -> Source {
        let fd = events.fd();
        if fd == self.activate.as_raw_fd() {
            drain(&self.activate);
            for queue in &self.queues[self.registered..] {
                add(ops, queue.as_raw_fd());
            }
            self.registered = self.queues.len();
            return Source::Activated;
        }
        match self.queues.iter().position(|queue| queue.as_raw_fd() == fd) {
            Some(index) => {
                drain(&self.queues[index]);
                Source::Queue(index)
            }
            None => Source::Other(fd),
        }
    }
}

fn add(ops: &mut EventOps, fd: RawFd) {
    if let Err(why) = ops.add(Events::new_raw(fd, EventSet::IN)) {
        error!(%why, fd, "an event of a device could not join the event loop");
    }
}

fn drain(event: &EventFd) {
    if let Err(why) = event.read() {
        debug!(%why, "an event fired without a count");
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
