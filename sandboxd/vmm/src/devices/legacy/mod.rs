//! Devices behind I/O ports: the serial port, and three ways for a guest to say that it is finished.

pub mod i8042;
pub mod panic_port;
pub mod power;
pub mod serial;
