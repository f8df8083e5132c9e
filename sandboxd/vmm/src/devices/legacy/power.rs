//! ACPI power registers (ACPI 6.5, 4.8.3.6 and 4.8.3.7): the guest powers itself off or resets by writing here.
//!
//! ```text
//!   +0 sleep control: bits 2-4 sleep type, bit 5 sleep enable     +1 sleep status     +2 reset
//! ```

use std::sync::Arc;

use crate::bus::BusDevice;
use crate::control::ExitReason;
use crate::exit::ExitCell;

/// Ports taken.
pub const PORTS: u64 = 3;
/// Offset of the sleep control register.
pub const SLEEP_CONTROL: u16 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u16 = 1;
/// Offset of the reset register.
pub const RESET: u16 = 2;
/// What resets, written there.
pub const RESET_VALUE: u8 = 1;
/// Sleep type of the off state, as the DSDT's `_S5_` says.
pub const SLEEP_TYPE_OFF: u8 = 5;
const SLEEP_ENABLE: u8 = 1 << 5;

/// The registers.
pub struct Power {
    exit: Arc<ExitCell>,
}

impl Power {
    /// Registers that end the machine through `exit`.
    pub fn new(exit: Arc<ExitCell>) -> Self {
        Self { exit }
    }
}

impl BusDevice for Power {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let &[byte] = data else { return };
        if offset == u64::from(SLEEP_CONTROL) && byte & SLEEP_ENABLE != 0 {
            if byte >> 2 & 7 == SLEEP_TYPE_OFF {
                self.exit
                    .set(ExitReason::GuestReset, "the guest powered off");
            }
        } else if offset == u64::from(RESET) && byte == RESET_VALUE {
            self.exit
                .set(ExitReason::GuestReset, "the guest wrote the reset register");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail_after(offset: u16, value: u8) -> Option<String> {
        let exit = Arc::new(ExitCell::new().unwrap());
        Power::new(Arc::clone(&exit)).write(u64::from(offset), &[value]);
        exit.get().map(|end| end.detail)
    }

    #[test]
    fn off_and_reset_end_the_machine() {
        let off = SLEEP_TYPE_OFF << 2 | SLEEP_ENABLE;
        assert_eq!(
            detail_after(SLEEP_CONTROL, off).unwrap(),
            "the guest powered off"
        );
        assert_eq!(
            detail_after(RESET, RESET_VALUE).unwrap(),
            "the guest wrote the reset register"
        );
    }

    #[test]
    fn anything_else_does_not() {
        assert_eq!(detail_after(SLEEP_CONTROL, SLEEP_TYPE_OFF << 2), None);
        assert_eq!(detail_after(SLEEP_CONTROL, 1 << 2 | SLEEP_ENABLE), None);
        assert_eq!(detail_after(SLEEP_STATUS, 0xff), None);
        assert_eq!(detail_after(RESET, 0), None);
    }
}
