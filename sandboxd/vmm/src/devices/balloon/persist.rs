//! The saved form of the balloon: nothing but its queues.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Balloon;
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::queue_state::QueueState;

/// The balloon as it stands in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonState {
    /// Inflate, deflate and reporting queue, when the driver was using them.
    pub queues: Option<[QueueState; 3]>,
}

impl Balloon {
    /// Takes down what a snapshot needs.
    pub fn state(&self) -> BalloonState {
        BalloonState {
            queues: self.queue_states(),
        }
    }

    /// Makes the device again. The queues go on when the transport activates the device with the queues restored from
    /// [`BalloonState::queues`].
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn from_state(_state: &BalloonState, memory: Arc<GuestMemory>) -> std::io::Result<Self> {
        Self::new(memory)
    }
}
