//! Devices of the microVM.

pub mod block;
pub mod rng;
pub mod legacy;
pub mod virtio;
pub mod vmgenid;
