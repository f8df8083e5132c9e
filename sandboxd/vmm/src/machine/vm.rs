//! The KVM side of a machine: VM, memory slots, interrupt controllers, virtual CPUs.
//!
//! Ordering rule: memory slots come before the in-kernel interrupt controllers. Some hosts take milliseconds for
//! `KVM_SET_USER_MEMORY_REGION` once `KVM_CREATE_IRQCHIP` is done, and microseconds before.

use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_CAP_HALT_POLL, KVM_MAX_CPUID_ENTRIES, kvm_enable_cap,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::arch::x86_64::cpuid::CpuIdentity;
use crate::arch::x86_64::{cpuid, lapic, layout, msrs, regs};
use crate::devices::virtio::GuestMemory;

/// Longest time KVM may poll for an event when a virtual CPU halts, in nanoseconds. Polling trades host CPU time for
/// wake-up latency; a host with many idle sandboxes wants none of it.
const HALT_POLL_NS: u64 = 0;

/// Capabilities without which nothing works.
const NEEDED: [(Cap, &str); 7] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// Why the KVM side could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The device cannot be opened.
    #[error("/dev/kvm cannot be opened: {0}")]
    Open(kvm_ioctls::Error),
    /// Another interface version than the one that never changed.
    #[error("/dev/kvm has API version {0}, but version 12 is needed")]
    Version(i32),
    /// A needed capability is missing.
    #[error("this host's KVM lacks {0}")]
    Missing(&'static str),
    /// A call failed.
    #[error("KVM could not {0}: {1}")]
    Call(&'static str, kvm_ioctls::Error),
    /// The CPUID list is longer than KVM takes.
    #[error("the CPUID list of this host is longer than KVM takes")]
    Cpuid,
    /// Model-specific registers.
    #[error(transparent)]
    Msrs(#[from] msrs::MsrError),
    /// Register files.
    #[error(transparent)]
    Regs(#[from] regs::RegsError),
}

/// Opens KVM and checks that it has what is needed.
///
/// # Errors
/// When it cannot be opened, or lacks something.
pub fn open() -> Result<Kvm, VmError> {
    let kvm = Kvm::new().map_err(VmError::Open)?;
    let version = kvm.get_api_version();
    if u32::try_from(version) != Ok(KVM_API_VERSION) {
        return Err(VmError::Version(version));
    }
    match NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, name)) => Err(VmError::Missing(name)),
        None => Ok(kvm),
    }
}

/// Makes a VM with `memory` and in-kernel interrupt controllers.
///
/// # Errors
/// When KVM refuses a step.
pub fn create(kvm: &Kvm, memory: &GuestMemory) -> Result<VmFd, VmError> {
    let call = |what| move |error| VmError::Call(what, error);
    let vm = kvm.create_vm().map_err(call("create a VM"))?;
    for (slot, region) in (0u32..).zip(memory.iter()) {
        let region = kvm_userspace_memory_region {
            slot,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr().expose_provenance() as u64,
            flags: 0,
        };
        #[allow(unsafe_code)]
        // SAFETY: the region lies in a mapping that `memory` keeps, and the caller keeps `memory` longer than the VM; regions
        // do not overlap, and slots are used once.
        unsafe { vm.set_user_memory_region(region) }.map_err(call("take guest memory"))?;
    }
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)
        .map_err(call("place its identity map"))?;
    vm.set_tss_address(layout::KVM_TSS)
        .map_err(call("place its task state segment"))?;
    vm.create_irq_chip()
        .map_err(call("create interrupt controllers"))?;
    if kvm.check_extension_raw(KVM_CAP_HALT_POLL.into()) > 0 {
        let cap = kvm_enable_cap {
            cap: KVM_CAP_HALT_POLL,
            args: [HALT_POLL_NS, 0, 0, 0],
            ..kvm_enable_cap::default()
        };
        vm.enable_cap(&cap)
            .map_err(call("bound its halt polling"))?;
    }
    Ok(vm)
}

/// Makes `cpus` virtual CPUs with their features; also says by what a snapshot of them is recognised.
///
/// # Errors
/// When KVM refuses a step.
pub fn create_vcpus(kvm: &Kvm, vm: &VmFd, cpus: u8) -> Result<(Vec<VcpuFd>, CpuIdentity), VmError> {
    let call = |what| move |error| VmError::Call(what, error);
    let supported = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(call("list CPU features"))?;
    let tsc_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    let mut vcpus = Vec::with_capacity(usize::from(cpus));
    let mut identity = CpuIdentity::default();
    for cpu in 0..cpus {
        let vcpu = vm
            .create_vcpu(u64::from(cpu))
            .map_err(call("create a virtual CPU"))?;
        let topology = cpuid::Topology {
            cpu,
            cpus,
            tsc_deadline,
        };
        let entries = cpuid::filter(supported.as_slice(), topology);
        if cpu == 0 {
            identity = CpuIdentity::of(&entries);
        }
        let list = CpuId::from_entries(&entries).map_err(|_| VmError::Cpuid)?;
        vcpu.set_cpuid2(&list)
            .map_err(call("take the CPU features"))?;
        vcpus.push(vcpu);
    }
    Ok((vcpus, identity))
}

/// Puts virtual CPUs into the state that firmware would leave: the first stands at `entry`, the others wait for it to start
/// them.
///
/// # Errors
/// When KVM refuses a step.
pub fn boot_vcpus<'a>(vcpus: impl Iterator<Item = &'a VcpuFd>, entry: u64) -> Result<(), VmError> {
    for (index, vcpu) in vcpus.enumerate() {
        msrs::set_boot_msrs(vcpu)?;
        regs::set_fpu(vcpu)?;
        lapic::set_lint(vcpu)
            .map_err(|error| VmError::Call("set the local interrupt pins", error))?;
        if index == 0 {
            regs::set_boot_registers(vcpu, entry)?;
        }
    }
    Ok(())
}

/// Model-specific registers that this host's KVM saves and restores.
///
/// # Errors
/// When KVM does not say.
pub fn saved_msrs(kvm: &Kvm) -> Result<Vec<u32>, VmError> {
    let list = kvm
        .get_msr_index_list()
        .map_err(|error| VmError::Call("list model-specific registers", error))?;
    Ok(list.as_slice().to_vec())
}
