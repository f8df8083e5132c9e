//! Everything KVM knows of one virtual CPU that stands still, taken down and put back.
//!
//! ```text
//!   save:     mp state ─► registers ─► segments ─► xsave, xcrs ─► debug ─► local APIC ─► MSRs ─► events
//!   restore:  mp state ─► registers ─► segments ─► xsave, xcrs ─► debug ─► local APIC ─► MSRs ─► events ─► kvm-clock told
//! ```
//!
//! Ordering rules (Linux, Documentation/virt/kvm/api.rst, and what its calls change on the side):
//! 1. The mp state is read first: reading it lets pending INIT and SIPI take effect, which changes other registers.
//! 2. Segments come before the local APIC, because they hold its base address; the local APIC before the TSC deadline, which
//!    is only taken in deadline mode; the TSC before its deadline.
//! 3. Events come last: several of the calls above drop pending ones.

#![allow(unsafe_code)]

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs,
    kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;

const IA32_TSC: u32 = 0x10;
const IA32_TSC_DEADLINE: u32 = 0x6e0;
/// Writing these makes KVM write the wall clock into guest memory, at an address that the guest has long forgotten. A guest
/// that wants the wall clock writes them itself.
const WALL_CLOCK: [u32; 2] = [0x11, 0x4b56_4d00];
/// MSRs in one call.
const BATCH: usize = 64;

/// Why the state could not be taken or put back.
#[derive(Debug, thiserror::Error)]
pub enum VcpuStateError {
    /// A call failed.
    #[error("KVM could not {0} of a virtual CPU: {1}")]
    Kvm(&'static str, kvm_ioctls::Error),
    /// A list is longer than KVM takes.
    #[error("the list of model-specific registers is too long")]
    TooMany,
    /// A register was not taken back.
    #[error("KVM refused to restore model-specific register {0:#x}")]
    Refused(u32),
}

/// One virtual CPU.
#[derive(Debug, Default)]
pub struct VcpuState {
    /// Whether it runs, halts or waits to be started.
    pub mp_state: kvm_mp_state,
    /// General registers.
    pub regs: kvm_regs,
    /// Segments, control registers, APIC base.
    pub sregs: kvm_sregs,
    /// Floating point and vector registers.
    pub xsave: kvm_xsave,
    /// Which of them are on.
    pub xcrs: kvm_xcrs,
    /// Debug registers.
    pub debugregs: kvm_debugregs,
    /// Local interrupt controller.
    pub lapic: kvm_lapic_state,
    /// Pending exceptions and interrupts.
    pub events: kvm_vcpu_events,
    /// Model-specific registers: number and value.
    pub msrs: Vec<(u32, u64)>,
    /// Frequency of its time stamp counter.
    pub tsc_khz: u32,
}

/// Takes down a virtual CPU; `indices` are the model-specific registers that KVM saves.
///
/// # Errors
/// When KVM refuses a step.
pub fn save(vcpu: &VcpuFd, indices: &[u32]) -> Result<VcpuState, VcpuStateError> {
    let failed = |what| move |error| VcpuStateError::Kvm(what, error);
    Ok(VcpuState {
        mp_state: vcpu.get_mp_state().map_err(failed("read the state"))?,
        regs: vcpu.get_regs().map_err(failed("read the registers"))?,
        sregs: vcpu.get_sregs().map_err(failed("read the segments"))?,
        xsave: vcpu
            .get_xsave()
            .map_err(failed("read the vector registers"))?,
        xcrs: vcpu
            .get_xcrs()
            .map_err(failed("read the extended control registers"))?,
        debugregs: vcpu
            .get_debug_regs()
            .map_err(failed("read the debug registers"))?,
        lapic: vcpu.get_lapic().map_err(failed("read the local APIC"))?,
        msrs: save_msrs(vcpu, indices)?,
        events: vcpu
            .get_vcpu_events()
            .map_err(failed("read the pending events"))?,
        tsc_khz: vcpu.get_tsc_khz().unwrap_or(0),
    })
}

/// Puts a virtual CPU back; its CPUID has been set before.
///
/// # Errors
/// When KVM refuses a step.
pub fn restore(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), VcpuStateError> {
    let failed = |what| move |error| VcpuStateError::Kvm(what, error);
    vcpu.set_mp_state(state.mp_state)
        .map_err(failed("restore the state"))?;
    vcpu.set_regs(&state.regs)
        .map_err(failed("restore the registers"))?;
    vcpu.set_sregs(&state.sregs)
        .map_err(failed("restore the segments"))?;
    // SAFETY: KVM reads no more than the 4,096 bytes of `kvm_xsave` unless the process asked for larger dynamic features
    // (arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM), which this one never does.
    unsafe { vcpu.set_xsave(&state.xsave) }.map_err(failed("restore the vector registers"))?;
    vcpu.set_xcrs(&state.xcrs)
        .map_err(failed("restore the extended control registers"))?;
    vcpu.set_debug_regs(&state.debugregs)
        .map_err(failed("restore the debug registers"))?;
    vcpu.set_lapic(&state.lapic)
        .map_err(failed("restore the local APIC"))?;
    restore_msrs(vcpu, &state.msrs)?;
    vcpu.set_vcpu_events(&state.events)
        .map_err(failed("restore the pending events"))?;
    // The guest is told that it stood still, or its watchdogs would bark; refused when it has no kvm-clock.
    let _ = vcpu.kvmclock_ctrl();
    Ok(())
}

fn save_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<(u32, u64)>, VcpuStateError> {
    let mut values = Vec::with_capacity(indices.len());
    let mut rest = indices;
    while !rest.is_empty() {
        let batch: Vec<_> = rest
            .iter()
            .take(BATCH)
            .map(|&index| entry(index, 0))
            .collect();
        let mut msrs = Msrs::from_entries(&batch).map_err(|_| VcpuStateError::TooMany)?;
        let read = vcpu
            .get_msrs(&mut msrs)
            .map_err(|error| VcpuStateError::Kvm("read the model-specific registers", error))?;
        let known = msrs.as_slice().iter().take(read);
        values.extend(known.map(|msr| (msr.index, msr.data)));
        // KVM stops at a register that this virtual CPU does not have.
        rest = &rest[(read + usize::from(read < batch.len())).min(rest.len())..];
    }
    values.retain(|(index, _)| !WALL_CLOCK.contains(index));
    values.sort_by_key(|&(index, _)| (order(index), index));
    Ok(values)
}

fn restore_msrs(vcpu: &VcpuFd, values: &[(u32, u64)]) -> Result<(), VcpuStateError> {
    let mut rest = values;
    while !rest.is_empty() {
        let batch: Vec<_> = rest
            .iter()
            .take(BATCH)
            .map(|&(index, data)| entry(index, data))
            .collect();
        let msrs = Msrs::from_entries(&batch).map_err(|_| VcpuStateError::TooMany)?;
        let taken = vcpu
            .set_msrs(&msrs)
            .map_err(|error| VcpuStateError::Kvm("restore the model-specific registers", error))?;
        match batch.get(taken) {
            // A register that reads as zero and cannot be written holds nothing to restore.
            Some(refused) if refused.data != 0 => {
                return Err(VcpuStateError::Refused(refused.index));
            }
            Some(_) => rest = &rest[taken + 1..],
            None => rest = &rest[batch.len()..],
        }
    }
    Ok(())
}

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry {
        index,
        data,
        reserved: 0,
    }
}

/// The time stamp counter first, its deadline last.
fn order(index: u32) -> u8 {
    match index {
        IA32_TSC => 0,
        IA32_TSC_DEADLINE => 2,
        _ => 1,
    }
}
