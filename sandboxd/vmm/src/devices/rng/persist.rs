//! The saved form of the entropy device: nothing but the queue. The bucket starts full again after a restore, because a
//! restored guest asks for fresh bytes at once.

use serde::{Deserialize, Serialize};

use super::Rng;
use crate::devices::virtio::queue_state::QueueState;

/// The entropy device as it stands in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngState {
    /// The queue, when the driver was using it.
    pub queue: Option<QueueState>,
}

impl Rng {
    /// Takes down what a snapshot needs.
    pub fn state(&self) -> RngState {
        RngState {
            queue: self.queue_state(),
        }
    }

    /// Makes the device again. The queue goes on when the transport activates the device with the queue restored from
    /// [`RngState::queue`].
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn from_state(_state: &RngState) -> std::io::Result<Self> {
        Self::new()
    }
}
