//! Registers of the boot processor at the first instruction of the kernel: long mode, flat segments, identity mapping.

use kvm_bindings::{kvm_fpu, kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

use super::{gdt, layout};
use crate::devices::virtio::GuestMemory;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const PAGE_PRESENT_WRITABLE: u64 = 0b11;
const PAGE_LARGE: u64 = 1 << 7;
/// Bit 1 of RFLAGS always reads as one.
const RFLAGS_FIXED: u64 = 2;

/// Why the boot state could not be set.
#[derive(Debug, thiserror::Error)]
pub enum RegsError {
    /// KVM refused a register file.
    #[error("KVM refused the {0} of the boot processor: {1}")]
    Kvm(&'static str, kvm_ioctls::Error),
    /// Guest memory does not reach as far as the tables.
    #[error("the boot tables do not fit into guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// Writes the descriptor and page tables that the boot registers point to.
///
/// # Errors
/// When guest memory is smaller than one MiB.
pub fn write_tables(memory: &GuestMemory) -> Result<(), RegsError> {
    for (slot, descriptor) in (layout::GDT..).step_by(8).zip(gdt::TABLE) {
        memory.write_obj(descriptor.bits(), GuestAddress(slot))?;
    }
    memory.write_obj(0u64, GuestAddress(layout::IDT))?;
    memory.write_obj(
        layout::PDPT | PAGE_PRESENT_WRITABLE,
        GuestAddress(layout::PML4),
    )?;
    memory.write_obj(
        layout::PAGE_DIRECTORY | PAGE_PRESENT_WRITABLE,
        GuestAddress(layout::PDPT),
    )?;
    for page in 0..512u64 {
        let entry = (page << 21) | PAGE_LARGE | PAGE_PRESENT_WRITABLE;
        memory.write_obj(entry, GuestAddress(layout::PAGE_DIRECTORY + page * 8))?;
    }
    Ok(())
}

/// Puts the boot processor at `entry`.
///
/// # Errors
/// When KVM refuses a register file.
pub fn set_boot_registers(vcpu: &VcpuFd, entry: u64) -> Result<(), RegsError> {
    let sregs = vcpu
        .get_sregs()
        .map_err(|error| RegsError::Kvm("segment registers", error))?;
    vcpu.set_sregs(&long_mode(sregs))
        .map_err(|error| RegsError::Kvm("segment registers", error))?;
    let regs = kvm_regs {
        rflags: RFLAGS_FIXED,
        rip: entry,
        rsp: layout::BOOT_STACK,
        rbp: layout::BOOT_STACK,
        rsi: layout::ZERO_PAGE,
        ..kvm_regs::default()
    };
    vcpu.set_regs(&regs)
        .map_err(|error| RegsError::Kvm("general registers", error))
}

/// Puts the floating point unit into its state after FNINIT, with all SSE exceptions masked.
///
/// # Errors
/// When KVM refuses it.
pub fn set_fpu(vcpu: &VcpuFd) -> Result<(), RegsError> {
    let fpu = kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..kvm_fpu::default()
    };
    vcpu.set_fpu(&fpu)
        .map_err(|error| RegsError::Kvm("floating point state", error))
}

/// The segment and control registers of long mode, on top of what KVM starts with.
fn long_mode(mut sregs: kvm_sregs) -> kvm_sregs {
    let [_, code, data, task] = gdt::TABLE;
    let data = data.segment(2);
    sregs.cs = code.segment(1);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = task.segment(3);
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = 8 * 4 - 1;
    sregs.idt.base = layout::IDT;
    sregs.idt.limit = 7;
    sregs.cr3 = layout::PML4;
    sregs.cr4 = CR4_PAE;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs.efer = EFER_LME | EFER_LMA;
    sregs
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryMmap;

    use super::*;

    #[test]
    fn the_first_gib_is_mapped_onto_itself() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write_tables(&memory).unwrap();
        let read = |at: u64| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        for address in [0u64, 0x20_0000, 0x3fff_ffff] {
            let pdpt = read(layout::PML4 + (address >> 39) * 8) & !0xfff;
            let directory = read(pdpt + (address >> 30 & 511) * 8) & !0xfff;
            let page = read(directory + (address >> 21 & 511) * 8);
            assert_eq!(page & 0xff, PAGE_LARGE | PAGE_PRESENT_WRITABLE);
            assert_eq!((page & !0x1f_ffff) | (address & 0x1f_ffff), address);
        }
        assert_eq!(read(layout::GDT + 8), gdt::TABLE[1].bits());
    }

    #[test]
    fn long_mode_is_complete() {
        let sregs = long_mode(kvm_sregs::default());
        assert_eq!(sregs.cs.l, 1);
        assert_eq!(sregs.cr0 & (CR0_PE | CR0_PG), CR0_PE | CR0_PG);
        assert_eq!(sregs.efer, EFER_LME | EFER_LMA);
        assert_eq!((sregs.cr3, sregs.cr4), (layout::PML4, CR4_PAE));
    }
}
