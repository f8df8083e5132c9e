//! The panic port: a guest kernel writes a bit here when it panics (QEMU, docs/specs/pvpanic).
//!
//! Reading gives the events that are understood; writing bit 0 says that the kernel panicked.

use std::sync::{Arc, Mutex};

use crate::bus::BusDevice;
use crate::control::ExitReason;
use crate::devices::legacy::serial::SerialTail;
use crate::exit::ExitCell;
use crate::sync::lock;

const PANICKED: u8 = 1;

/// The port. A panic ends the machine with the panic's own words, if the serial console carried them.
pub struct PanicPort {
    exit: Arc<ExitCell>,
    tail: Arc<Mutex<SerialTail>>,
}

impl PanicPort {
    /// A port that ends the machine through `exit` and looks for words in `tail`.
    pub fn new(exit: Arc<ExitCell>, tail: Arc<Mutex<SerialTail>>) -> Self {
        Self { exit, tail }
    }
}

impl BusDevice for PanicPort {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let [byte] = data {
            *byte = PANICKED;
        }
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        if data.first().is_some_and(|byte| byte & PANICKED != 0) {
            let words = lock(&self.tail).panic_line();
            let detail = words.as_deref().unwrap_or("the guest kernel panicked");
            self.exit.set(ExitReason::GuestPanic, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_the_machine_with_its_words() {
        let exit = Arc::new(ExitCell::new().unwrap());
        let tail = Arc::new(Mutex::new(SerialTail::default()));
        for byte in b"[    0.5] Kernel panic - not syncing: no root\r\n" {
            lock(&tail).push(*byte);
        }
        let mut port = PanicPort::new(Arc::clone(&exit), tail);
        let mut events = [0];
        port.read(0, &mut events);
        assert_eq!(events, [PANICKED]);
        port.write(0, &[2]);
        assert!(exit.get().is_none());
        port.write(0, &[1]);
        let end = exit.get().unwrap();
        assert_eq!(end.reason, ExitReason::GuestPanic);
        assert_eq!(end.detail, "Kernel panic - not syncing: no root");
    }
}
