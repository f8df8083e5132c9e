//! Devices of the microVM.

pub mod virtio;
