//! The saved form of the vsock device. Connections are not saved: after a restore the guest is told by a transport reset
//! event that they are gone, and host processes find their sockets closed. A guest that had none need not be told.

use serde::{Deserialize, Serialize};

use super::{Vsock, VsockError};
use crate::config::VsockConfig;
use crate::devices::virtio::queue_state::QueueState;

/// The vsock device as it stands in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockState {
    /// Address of the guest.
    pub guest_cid: u64,
    /// Connections that the guest knows of, and resets that it has yet to hear of.
    pub connections: u64,
    /// Port of the next connection that the host asks for. A guest forgets a connection only when its program does: one with the
    /// ports of an old one would be taken for that.
    #[serde(default)]
    pub next_port: u32,
    /// Rx, tx and event queue, when the driver was using them.
    pub queues: Option<[QueueState; 3]>,
}

impl Vsock {
    /// Takes down what a snapshot needs.
    pub fn state(&self) -> VsockState {
        VsockState {
            guest_cid: self.guest_cid(),
            connections: self.connections_to_forget(),
            next_port: self.next_port(),
            queues: self.queue_states(),
        }
    }

    /// Makes the device again, with the guest due to be told that its connections are gone. The queues go on when the
    /// transport activates the device with the queues restored from [`VsockState::queues`].
    ///
    /// # Errors
    /// When the socket cannot be made, or another guest address is configured.
    pub fn from_state(config: &VsockConfig, state: &VsockState) -> Result<Self, VsockError> {
        let configured = u64::from(config.guest_cid);
        if configured != state.guest_cid {
            return Err(VsockError::OtherCid {
                saved: state.guest_cid,
                configured,
            });
        }
        let mut vsock = Self::new(config)?;
        vsock.owe(state);
        Ok(vsock)
    }

    /// Notes what a guest that goes on from `state` has to be told; for a device whose queues were taken away before and are
    /// about to be given back.
    pub fn owe(&mut self, state: &VsockState) {
        self.muxer().skip_ports(state.next_port);
        if state.queues.is_some() && state.connections > 0 {
            self.owe_transport_reset();
        }
    }
}
