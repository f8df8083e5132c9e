//! One microVM per process: KVM, virtio-mmio devices, control protocol.
//!
//! ```text
//!   main thread      control socket, signals, the machine's end      (control, service, exit)
//!   thread devices   virtio devices and their back-ends              (event_loop, devices)
//!   threads vcpuN    the guest, and its accesses to registers        (vcpu, bus)
//! ```
//!
//! The crate knows nothing of HTTP, of E2B, or of what runs in the guest.

#![deny(unsafe_code)]

pub mod arch;
pub mod bus;
pub mod config;
pub mod control;
pub mod devices;
pub mod event_loop;
pub mod exit;
pub mod kernel;
pub mod logging;
pub mod machine;
pub mod memory;
pub mod process;
pub mod seccomp;
pub mod serial_log;
pub mod service;
pub mod snapshot;
pub mod sync;
pub mod vcpu;
