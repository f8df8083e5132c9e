//! The saved form of a disk. Its bytes stay in the files; what is saved is enough to recognise them and to go on with the
//! queue. Whoever saves flushes first ([`Block::flush`]), so that the overlay file is complete.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::overlay::BaseIdentity;
use super::{Backend, Block, BlockError};
use crate::config::DiskConfig;
use crate::devices::virtio::queue_state::QueueState;

/// A disk as it stands in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockState {
    /// Name of the disk.
    pub id: String,
    /// Size in bytes.
    pub size: u64,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// What the base of the overlay is recognised by, when there is one.
    pub base: Option<BaseIdentity>,
    /// The queue, when the driver was using it.
    pub queue: Option<QueueState>,
}

impl Block {
    /// Takes down what a snapshot needs.
    pub fn state(&self) -> BlockState {
        let backend = self.backend();
        BlockState {
            id: self.id().to_owned(),
            size: backend.size(),
            read_only: backend.read_only(),
            base: match backend {
                Backend::Raw(_) => None,
                Backend::Overlay(overlay) => Some(overlay.base_identity()),
            },
            queue: self.queue_state(),
        }
    }

    /// Opens the files of `config` and the frozen `layers` between them as the disk in `state`. The queue goes on when the transport activates the device with
    /// the queue restored from [`BlockState::queue`].
    ///
    /// # Errors
    /// When a file cannot be opened or is not the one that was saved.
    pub fn from_state(
        config: &DiskConfig,
        layers: &[PathBuf],
        overlay_ceiling: u64,
        state: &BlockState,
    ) -> Result<Self, BlockError> {
        let block = Self::open_over(config, layers, overlay_ceiling)?;
        let now = block.state();
        let differs = [
            ("its name", now.id != state.id),
            ("its size", now.size != state.size),
            ("whether it is read-only", now.read_only != state.read_only),
            ("the base of its overlay", now.base != state.base),
        ];
        match differs.into_iter().find(|(_, differs)| *differs) {
            Some((what, _)) => Err(BlockError::OtherDisk {
                id: state.id.clone(),
                what,
            }),
            None => Ok(block),
        }
    }
}
