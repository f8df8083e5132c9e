//! The device status register as a pure state machine (Virtio 1.2, 2.1 and 3.1.1).
//!
//! ```text
//!   0 ──► ACKNOWLEDGE ──► DRIVER ──► FEATURES_OK ──► DRIVER_OK        any ──(0 written)──► 0
//!                                         any ──► FAILED              any ──(device)──► NEEDS_RESET
//! ```
//!
//! A driver may only add bits, one step after the other; it takes all of them away at once by writing zero.

/// The guest has noticed the device.
pub const ACKNOWLEDGE: u32 = 1;
/// The guest knows how to drive the device.
pub const DRIVER: u32 = 2;
/// The driver is set up; the device may work.
pub const DRIVER_OK: u32 = 4;
/// The driver has chosen features and the device agreed.
pub const FEATURES_OK: u32 = 8;
/// The device cannot go on until it is reset.
pub const NEEDS_RESET: u32 = 64;
/// The driver has given up on the device.
pub const FAILED: u32 = 128;

/// What a write to the status register asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Back to the initial state.
    Reset,
    /// Take this value; nothing else follows from it.
    Set(u32),
    /// Take this value if the chosen features are acceptable.
    CheckFeatures(u32),
    /// Take this value and activate the device.
    Activate(u32),
    /// The driver broke the protocol; the write has no effect.
    Ignore,
}

/// Decides what writing `written` over `current` means.
pub fn step(current: u32, written: u32) -> Step {
    if written == 0 {
        return Step::Reset;
    }
    let device_bits = current & NEEDS_RESET;
    let held = current & !NEEDS_RESET;
    let wanted = written & !NEEDS_RESET;
    if wanted & held != held {
        return Step::Ignore;
    }
    let next = wanted | device_bits;
    match wanted & !held {
        0 | ACKNOWLEDGE | FAILED => Step::Set(next),
        DRIVER if held & ACKNOWLEDGE != 0 => Step::Set(next),
        FEATURES_OK if held == ACKNOWLEDGE | DRIVER => Step::CheckFeatures(next),
        DRIVER_OK if held == ACKNOWLEDGE | DRIVER | FEATURES_OK => Step::Activate(next),
        _ => Step::Ignore,
    }
}

/// Whether the driver may still choose features.
pub fn may_choose_features(status: u32) -> bool {
    status & (DRIVER | FEATURES_OK | FAILED) == DRIVER
}

/// Whether the driver may set queues up.
pub fn may_set_up_queues(status: u32) -> bool {
    status & (FEATURES_OK | DRIVER_OK | FAILED) == FEATURES_OK
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_of_the_specification_works() {
        assert_eq!(step(0, 1), Step::Set(1));
        assert_eq!(step(1, 3), Step::Set(3));
        assert_eq!(step(3, 11), Step::CheckFeatures(11));
        assert_eq!(step(11, 15), Step::Activate(15));
        assert_eq!(step(15, 0), Step::Reset);
        assert_eq!(step(15, 15 | FAILED), Step::Set(15 | FAILED));
    }

    #[test]
    fn steps_out_of_order_are_ignored() {
        for (current, written) in [
            (0, 2),
            (0, 8),
            (1, 9),
            (3, 7),
            (3, 15),
            (11, 3),
            (15, 7),
            (0, 16),
        ] {
            assert_eq!(
                step(current, written),
                Step::Ignore,
                "{current} -> {written}"
            );
        }
        assert_eq!(step(11 | FAILED, 15 | FAILED), Step::Ignore);
    }

    #[test]
    fn a_driver_cannot_touch_needs_reset() {
        assert_eq!(step(15 | NEEDS_RESET, 15), Step::Set(15 | NEEDS_RESET));
        assert_eq!(step(0, NEEDS_RESET), Step::Set(0));
        assert_eq!(step(NEEDS_RESET, 1), Step::Set(1 | NEEDS_RESET));
    }

    proptest! {
        #[test]
        fn any_walk_reaches_driver_ok_only_through_features_ok(writes in prop::collection::vec(0u32..256, 0..64)) {
            let mut status = 0;
            for written in writes {
                match step(status, written) {
                    Step::Reset => status = 0,
                    Step::Set(next) => {
                        prop_assert_eq!((next ^ status) & (DRIVER_OK | FEATURES_OK), 0);
                        status = next;
                    }
                    Step::CheckFeatures(next) => {
                        prop_assert!(status & DRIVER != 0);
                        status = next;
                    }
                    Step::Activate(next) => {
                        prop_assert!(status & FEATURES_OK != 0 && status & DRIVER_OK == 0);
                        status = next;
                    }
                    Step::Ignore => {}
                }
            }
        }
    }
}
