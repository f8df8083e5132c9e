//! One microVM per process: KVM, virtio-mmio devices, control protocol.

pub mod devices;
