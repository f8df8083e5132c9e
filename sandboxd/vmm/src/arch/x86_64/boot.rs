//! The zero page: what the kernel is told at its first instruction (Linux, Documentation/arch/x86/zero-page.rst).

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Bytes, GuestAddress};

use super::layout::{self, Range};
use crate::devices::virtio::GuestMemory;

/// "HdrS", the mark of the setup header.
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
const BOOT_FLAG: u16 = 0xaa55;
/// A loader without an assigned number.
const LOADER_UNKNOWN: u8 = 0xff;
/// Alignment that a relocatable kernel would ask for; a vmlinux is loaded where it was linked.
const KERNEL_ALIGNMENT: u32 = 0x100_0000;

/// Why the boot parameters could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The command line is longer than the kernel reads.
    #[error("the kernel command line has {0} bytes, but the kernel reads at most {max}", max = layout::CMDLINE_MAX - 1)]
    CmdlineTooLong(usize),
    /// The memory map has too many entries.
    #[error("the memory map has {0} entries, which is more than the zero page holds")]
    E820TooLong(usize),
    /// Guest memory does not reach as far as the parameters.
    #[error("the boot parameters do not fit into guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// Writes the command line and the zero page.
///
/// # Errors
/// See [`BootError`].
pub fn write(
    memory: &GuestMemory,
    ranges: &[Range],
    cmdline: &str,
    rsdp: u64,
) -> Result<(), BootError> {
    if cmdline.len() >= layout::CMDLINE_MAX {
        return Err(BootError::CmdlineTooLong(cmdline.len()));
    }
    memory.write_slice(cmdline.as_bytes(), GuestAddress(layout::CMDLINE))?;
    memory.write_obj(0u8, GuestAddress(layout::CMDLINE + cmdline.len() as u64))?;

    let mut params = boot_params::default();
    params.hdr.type_of_loader = LOADER_UNKNOWN;
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER_MAGIC;
    params.hdr.kernel_alignment = KERNEL_ALIGNMENT;
    params.hdr.cmd_line_ptr = u32::try_from(layout::CMDLINE).unwrap_or_default();
    params.hdr.cmdline_size = u32::try_from(cmdline.len()).unwrap_or_default();
    params.acpi_rsdp_addr = rsdp;

    let map = layout::e820(ranges);
    let mut table = params.e820_table;
    if map.len() > table.len() {
        return Err(BootError::E820TooLong(map.len()));
    }
    for (slot, (range, kind)) in table.iter_mut().zip(&map) {
        *slot = boot_e820_entry {
            addr: range.start,
            size: range.len,
            r#type: *kind as u32,
        };
    }
    params.e820_table = table;
    params.e820_entries = u8::try_from(map.len()).map_err(|_| BootError::E820TooLong(map.len()))?;
    memory.write_obj(params, GuestAddress(layout::ZERO_PAGE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryMmap;

    use super::*;

    fn memory() -> (GuestMemory, Vec<Range>) {
        let ranges = layout::memory_ranges(64 << 20);
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
        (memory, ranges)
    }

    #[test]
    fn the_zero_page_says_what_was_asked() {
        let (memory, ranges) = memory();
        write(&memory, &ranges, "console=ttyS0", 0xe0000).unwrap();
        let params: boot_params = memory.read_obj(GuestAddress(layout::ZERO_PAGE)).unwrap();
        assert_eq!({ params.hdr.header }, HEADER_MAGIC);
        assert_eq!({ params.acpi_rsdp_addr }, 0xe0000);
        assert_eq!(params.e820_entries, 3);
        let table = params.e820_table;
        assert_eq!(
            ({ table[2].addr }, { table[2].size }),
            (0x10_0000, 63 << 20)
        );
        let mut text = [0u8; 14];
        memory
            .read_slice(&mut text, GuestAddress(layout::CMDLINE))
            .unwrap();
        assert_eq!(&text, b"console=ttyS0\0");
    }

    #[test]
    fn a_long_command_line_is_refused() {
        let (memory, ranges) = memory();
        let fits = "x".repeat(layout::CMDLINE_MAX - 1);
        write(&memory, &ranges, &fits, 0).unwrap();
        let long = "x".repeat(layout::CMDLINE_MAX);
        assert!(matches!(
            write(&memory, &ranges, &long, 0),
            Err(BootError::CmdlineTooLong(2048))
        ));
    }
}
