//! Local interrupt pins of a processor: LINT0 takes interrupts of the legacy controller, LINT1 is the NMI (Intel
//! MultiProcessor Specification 1.4, 3.6.2.2).

use kvm_bindings::kvm_lapic_state;
use kvm_ioctls::VcpuFd;

const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const DELIVERY_MODE_MASK: u32 = 0x700;
const DELIVER_EXTINT: u32 = 0x700;
const DELIVER_NMI: u32 = 0x400;

/// Sets both pins.
///
/// # Errors
/// When KVM refuses to give or take the state.
pub fn set_lint(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut state = vcpu.get_lapic()?;
    set_delivery(&mut state, LVT_LINT0, DELIVER_EXTINT);
    set_delivery(&mut state, LVT_LINT1, DELIVER_NMI);
    vcpu.set_lapic(&state)
}

fn set_delivery(state: &mut kvm_lapic_state, register: usize, mode: u32) {
    let bytes = &mut state.regs[register..register + 4];
    let mut word = [0u8; 4];
    for (to, from) in word.iter_mut().zip(bytes.iter()) {
        *to = from.to_le_bytes()[0];
    }
    let value = (u32::from_le_bytes(word) & !DELIVERY_MODE_MASK) | mode;
    for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()) {
        *to = i8::from_le_bytes([from]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_delivery_mode_changes() {
        let mut state = kvm_lapic_state::default();
        state.regs[LVT_LINT0] = 0x12;
        state.regs[LVT_LINT0 + 1] = 0x01;
        state.regs[LVT_LINT0 + 2] = -1;
        set_delivery(&mut state, LVT_LINT0, DELIVER_EXTINT);
        assert_eq!(state.regs[LVT_LINT0..LVT_LINT0 + 4], [0x12, 0x07, -1, 0]);
        set_delivery(&mut state, LVT_LINT0, DELIVER_NMI);
        assert_eq!(state.regs[LVT_LINT0 + 1], 0x04);
    }
}
