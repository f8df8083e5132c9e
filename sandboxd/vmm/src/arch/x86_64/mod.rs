//! The x86-64 machine as a guest finds it when its kernel starts.
//!
//! ```text
//!   layout   where everything lies            cpuid, msrs   what the processor says it can
//!   boot     zero page, e820, command line    regs, lapic   the state at the first instruction
//!   acpi     the tables that name the devices              vcpu_state, vm_state   what a snapshot holds of KVM
//! ```
//!
//! The kernel is entered at its 64-bit entry point (Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"):
//! long mode, identity mapping of the first GiB, RSI pointing at the zero page.

pub mod acpi;
pub mod boot;
pub mod cpuid;
mod gdt;
pub mod lapic;
pub mod layout;
pub mod msrs;
pub mod regs;
pub mod vcpu_state;
pub mod vm_state;
