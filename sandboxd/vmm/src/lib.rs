//! One microVM per process: KVM, virtio-mmio devices, control protocol.

pub mod bus;
pub mod config;
pub mod control;
pub mod devices;
pub mod sync;
