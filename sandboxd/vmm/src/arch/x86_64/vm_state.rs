//! What belongs to the machine and not to one of its CPUs: interrupt controllers and the clock.
//!
//! The clock goes on from where it stood: a restored guest's CLOCK_MONOTONIC does not see the time that it was away. Its wall
//! clock is set from inside, by whoever resumes it.

use kvm_bindings::{KVM_IRQCHIP_IOAPIC, kvm_clock_data, kvm_irqchip};
use kvm_ioctls::VmFd;

/// Interrupt controllers that KVM has: two PICs and the IOAPIC.
pub const IRQCHIPS: usize = KVM_IRQCHIP_IOAPIC as usize + 1;

/// Why the state could not be taken or put back.
#[derive(Debug, thiserror::Error)]
#[error("KVM could not {0}: {1}")]
pub struct VmStateError(&'static str, kvm_ioctls::Error);

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct VmState {
    /// Nanoseconds of kvm-clock.
    pub clock: u64,
    /// The interrupt controllers by their number.
    pub irqchips: [kvm_irqchip; IRQCHIPS],
}

/// Takes down the machine; all its CPUs stand still.
///
/// # Errors
/// When KVM refuses a step.
pub fn save(vm: &VmFd) -> Result<VmState, VmStateError> {
    let mut state = VmState {
        clock: vm
            .get_clock()
            .map_err(|error| VmStateError("read the clock", error))?
            .clock,
        ..VmState::default()
    };
    for (id, chip) in (0u32..).zip(&mut state.irqchips) {
        chip.chip_id = id;
        vm.get_irqchip(chip)
            .map_err(|error| VmStateError("read an interrupt controller", error))?;
    }
    Ok(state)
}

/// Puts the machine back.
///
/// # Errors
/// When KVM refuses a step.
pub fn restore(vm: &VmFd, state: &VmState) -> Result<(), VmStateError> {
    for (id, chip) in (0u32..).zip(&state.irqchips) {
        let chip = kvm_irqchip {
            chip_id: id,
            ..*chip
        };
        vm.set_irqchip(&chip)
            .map_err(|error| VmStateError("restore an interrupt controller", error))?;
    }
    // Without flags: the clock shows this value now, whatever the wall clock says.
    let clock = kvm_clock_data {
        clock: state.clock,
        ..kvm_clock_data::default()
    };
    vm.set_clock(&clock)
        .map_err(|error| VmStateError("restore the clock", error))
}
