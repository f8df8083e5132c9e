//! The saved form of a transport: what its registers held. The queues of a device in use are saved with the device; where they
//! lie in guest memory is written here, as the driver wrote it, and checked again when they are made anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use virtio_queue::QueueT;

use super::{MmioTransport, QueueError, QueueSetup};
use crate::devices::virtio::queue_state::QueueState;
use crate::devices::virtio::{ActivateError, Activation, Interrupt, status_is_active};
use crate::sync::lock;

/// A transport as it stands in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransportState {
    /// Device status register.
    pub status: u32,
    /// Interrupt bits that the driver has not acknowledged.
    pub pending: u32,
    /// Configuration generation.
    pub generation: u32,
    /// Features that the driver accepted.
    pub accepted: u64,
    /// The two feature selectors and the queue selector.
    pub selectors: [u32; 3],
    /// What the driver wrote about each queue.
    pub queues: Vec<QueueSetup>,
}

/// Why a transport cannot be what it was.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The device has another number of queues.
    #[error("a device of type {device} was saved with {saved} queues but has {want}")]
    Queues {
        /// Type of the device.
        device: u32,
        /// Queues in the state.
        saved: usize,
        /// Queues of the device.
        want: usize,
    },
    /// Features were accepted that are not offered.
    #[error("a device of type {0} was saved with features that this program does not offer")]
    Features(u32),
    /// A queue does not lie in guest memory, or its parts do not agree.
    #[error("a queue of a device of type {device} is impossible: {error}")]
    Queue {
        /// Type of the device.
        device: u32,
        /// What is wrong.
        error: QueueError,
    },
    /// The device was in use, but its own state says that it was not.
    #[error("the states of a device of type {0} and of its registers contradict each other")]
    Contradiction(u32),
    /// The device refused.
    #[error("a device could not go on: {0}")]
    Activate(#[from] ActivateError),
}

impl MmioTransport {
    /// Takes down the registers.
    pub fn state(&self) -> TransportState {
        TransportState {
            status: self.status(),
            pending: self.line.pending(),
            generation: self.line.config_generation.load(Ordering::SeqCst),
            accepted: self.accepted,
            selectors: [
                self.device_features_select,
                self.driver_features_select,
                self.queue_select,
            ],
            queues: self.queues.clone(),
        }
    }

    /// Takes the device from whoever drives it, so that its registers, its state and guest memory can be replaced.
    pub fn quiesce(&mut self) {
        self.reset();
    }

    /// Makes the registers what they were and lets the device go on with `live`, the saved positions of its queues. Guest
    /// memory must be in place. Interrupts that were on their way are raised again: the driver asks why, and finds out.
    ///
    /// # Errors
    /// See [`TransportError`]; the device is not in use then.
    pub fn restore(
        &mut self,
        state: &TransportState,
        live: Option<&[QueueState]>,
    ) -> Result<(), TransportError> {
        let device = self.device_type;
        self.reset();
        if state.queues.len() != self.queues.len()
            || live.is_some_and(|live| live.len() != self.queues.len())
        {
            return Err(TransportError::Queues {
                device,
                saved: state.queues.len(),
                want: self.queues.len(),
            });
        }
        if state.accepted & !self.offered != 0 {
            return Err(TransportError::Features(device));
        }
        if status_is_active(state.status) != live.is_some() {
            return Err(TransportError::Contradiction(device));
        }
        for (queue, saved) in self.queues.iter_mut().zip(&state.queues) {
            if queue.max_size() != saved.max_size() {
                return Err(TransportError::Contradiction(device));
            }
            *queue = saved.clone();
        }
        self.accepted = state.accepted;
        [
            self.device_features_select,
            self.driver_features_select,
            self.queue_select,
        ] = state.selectors;
        self.line
            .restore(state.status, state.pending, state.generation);
        if let Some(live) = live {
            self.go_on(live)?;
        }
        self.line.raise_pending();
        Ok(())
    }

    fn go_on(&mut self, live: &[QueueState]) -> Result<(), TransportError> {
        let event_idx = self.accepted & super::F_EVENT_IDX != 0;
        let mut queues = Vec::with_capacity(live.len());
        for (setup, live) in self.queues.iter().zip(live) {
            let mut queue =
                setup
                    .build(&*self.memory, event_idx)
                    .map_err(|error| TransportError::Queue {
                        device: self.device_type,
                        error,
                    })?;
            queue.set_next_avail(live.next_avail);
            queue.set_next_used(live.next_used);
            if QueueState::of(&queue) != *live {
                return Err(TransportError::Contradiction(self.device_type));
            }
            queues.push(queue);
        }
        let activation = Activation {
            memory: Arc::clone(&self.memory),
            queues,
            queue_events: self.queue_events.clone(),
            interrupt: Arc::clone(&self.line) as Arc<dyn Interrupt>,
            features: self.accepted,
        };
        self.activated = true;
        Ok(lock(&self.device).activate(activation)?)
    }
}
