//! The saved form of the network card. Frames on their way are not saved; networks lose frames.

use serde::{Deserialize, Serialize};

use super::{Mac, Net, NetError, Tap};
use crate::config::NetConfig;
use crate::devices::virtio::queue_state::QueueState;

/// The network card as it stands in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetState {
    /// Address of the card.
    pub mac: Mac,
    /// MTU that the guest was told. The TAP of a restored machine may have another; the guest keeps this one.
    pub mtu: u16,
    /// Rx and tx queue, when the driver was using them.
    pub queues: Option<[QueueState; 2]>,
}

impl Net<Tap> {
    /// Attaches to the TAP of `config` as the card in `state`. The queues go on when the transport activates the device
    /// with the queues restored from [`NetState::queues`].
    ///
    /// # Errors
    /// When the TAP cannot be used, or another address is configured.
    pub fn from_state(config: &NetConfig, state: &NetState) -> Result<Self, NetError> {
        let configured = Mac(config.mac_bytes()?);
        if configured != state.mac {
            return Err(NetError::OtherMac {
                saved: state.mac,
                configured,
            });
        }
        let mut net = Self::open(config)?;
        net.set_mtu(state.mtu);
        Ok(net)
    }
}
