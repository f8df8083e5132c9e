//! Devices of the microVM.

pub mod balloon;
pub mod block;
pub mod legacy;
pub mod net;
pub mod rng;
pub mod virtio;
pub mod vmgenid;
pub mod vsock;
