//! The one wire of a keyboard controller that matters here: the reset line (command 0xfe written to port 0x64).

use std::sync::Arc;

use crate::bus::BusDevice;
use crate::control::ExitReason;
use crate::exit::ExitCell;

/// Ports taken, from 0x60 on.
pub const PORTS: u64 = 5;
const COMMAND: u64 = 4;
const PULSE_RESET: u8 = 0xfe;

/// The controller.
pub struct I8042 {
    exit: Arc<ExitCell>,
}

impl I8042 {
    /// A controller that ends the machine through `exit`.
    pub fn new(exit: Arc<ExitCell>) -> Self {
        Self { exit }
    }
}

impl BusDevice for I8042 {
    /// Both buffers are always empty.
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if offset == COMMAND && data == [PULSE_RESET] {
            self.exit
                .set(ExitReason::GuestReset, "the guest pulsed the reset line");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reset_command_resets() {
        let exit = Arc::new(ExitCell::new().unwrap());
        let mut device = I8042::new(Arc::clone(&exit));
        device.write(0, &[PULSE_RESET]);
        device.write(COMMAND, &[0xd1]);
        device.write(COMMAND, &[PULSE_RESET, 0]);
        assert!(exit.get().is_none());
        device.write(COMMAND, &[PULSE_RESET]);
        assert_eq!(exit.get().unwrap().reason, ExitReason::GuestReset);
    }
}
