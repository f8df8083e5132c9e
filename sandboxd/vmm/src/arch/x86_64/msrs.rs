//! Model-specific registers at the first instruction. Everything not named here is zero after KVM's reset, which is what
//! firmware leaves too.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

const IA32_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRINGS: u64 = 1;
const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
/// MTRRs on, default type write-back: without this Linux would take all memory as uncached.
const MTRR_ENABLED_WRITE_BACK: u64 = (1 << 11) | 6;

/// Why the registers could not be set.
#[derive(Debug, thiserror::Error)]
pub enum MsrError {
    /// The list could not be made or passed.
    #[error("KVM refused the list of model-specific registers: {0}")]
    Kvm(#[from] kvm_ioctls::Error),
    /// The list is longer than KVM takes.
    #[error("the list of model-specific registers is too long")]
    TooMany,
    /// KVM stopped at this register.
    #[error("KVM refused model-specific register {0:#x}")]
    Refused(u32),
}

/// Sets the boot values.
///
/// # Errors
/// See [`MsrError`].
pub fn set_boot_msrs(vcpu: &VcpuFd) -> Result<(), MsrError> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        reserved: 0,
    };
    let entries = [
        entry(IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS),
        entry(IA32_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK),
    ];
    let msrs = Msrs::from_entries(&entries).map_err(|_| MsrError::TooMany)?;
    let taken = vcpu.set_msrs(&msrs)?;
    match entries.get(taken) {
        Some(refused) => Err(MsrError::Refused(refused.index)),
        None => Ok(()),
    }
}
