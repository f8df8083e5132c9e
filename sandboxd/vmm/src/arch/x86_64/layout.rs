//! Where everything lies in the guest's physical address space and on its interrupt lines.
//!
//! ```text
//!   0x0000_0500 GDT, IDT          0x000e_0000 ACPI tables, VM generation id   0xd000_0000 virtio-mmio, 4 KiB each
//!   0x0000_7000 zero page         0x0010_0000 kernel and ordinary memory      0xfec0_0000 IOAPIC
//!   0x0000_9000 page tables       0xc000_0000 hole for devices                0xfee0_0000 local APIC
//!   0x0002_0000 command line      0x1_0000_0000 memory above 3 GiB            0xfffb_c000 KVM's own pages
//! ```

/// Global descriptor table.
pub const GDT: u64 = 0x500;
/// Interrupt descriptor table, empty.
pub const IDT: u64 = 0x520;
/// Linux boot parameters.
pub const ZERO_PAGE: u64 = 0x7000;
/// Stack pointer at the first instruction.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Top-level page table; the next two levels follow.
pub const PML4: u64 = 0x9000;
/// Second-level page table.
pub const PDPT: u64 = 0xa000;
/// Third-level page table.
pub const PAGE_DIRECTORY: u64 = 0xb000;
/// Kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line, its final zero included: x86's COMMAND_LINE_SIZE.
pub const CMDLINE_MAX: usize = 2048;
/// End of conventional low memory.
pub const LOW_MEMORY_END: u64 = 0x9_fc00;
/// ACPI tables; the RSDP is the first of them.
pub const ACPI: u64 = 0xe_0000;
/// Bytes for ACPI tables.
pub const ACPI_SIZE: u64 = VMGENID - ACPI;
/// Page with the VM generation id.
pub const VMGENID: u64 = 0xf_f000;
/// Ordinary memory.
pub const HIGH_MEMORY: u64 = 0x10_0000;
/// Start of the hole for devices below 4 GiB.
pub const DEVICE_HOLE: u64 = 0xc000_0000;
/// End of that hole.
pub const DEVICE_HOLE_END: u64 = 0x1_0000_0000;
/// First virtio-mmio device.
pub const VIRTIO_MMIO: u64 = 0xd000_0000;
/// I/O interrupt controller.
pub const IOAPIC: u32 = 0xfec0_0000;
/// Local interrupt controllers.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// One page for KVM's identity map (KVM_SET_IDENTITY_MAP_ADDR).
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages for KVM's task state segment (KVM_SET_TSS_ADDR).
pub const KVM_TSS: usize = 0xfffb_d000;

/// Interrupt of the first serial port.
pub const SERIAL_GSI: u32 = 4;
/// Interrupt of the first virtio device; the others follow.
pub const VIRTIO_GSI: u32 = 5;
/// Interrupt of the generic event device.
pub const EVENT_GSI: u32 = 23;
/// Most virtio devices: there is one interrupt line for each.
pub const MAX_VIRTIO: usize = (EVENT_GSI - VIRTIO_GSI) as usize;

/// First serial port.
pub const COM1: u16 = 0x3f8;
/// Keyboard controller, of which only the reset line exists.
pub const I8042: u16 = 0x60;
/// Panic notification (QEMU's docs/specs/pvpanic).
pub const PVPANIC: u16 = 0x505;
/// ACPI sleep control, sleep status and reset registers, one byte each.
pub const POWER: u16 = 0x600;

/// A piece of guest memory or of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

/// Cuts `bytes` of guest memory around the hole for devices.
pub fn memory_ranges(bytes: u64) -> Vec<Range> {
    let low = Range {
        start: 0,
        len: bytes.min(DEVICE_HOLE),
    };
    let above = bytes - low.len;
    let high = Range {
        start: DEVICE_HOLE_END,
        len: above,
    };
    if above == 0 {
        vec![low]
    } else {
        vec![low, high]
    }
}

/// Kinds of e820 entries (ACPI 6.5, 15.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum E820Kind {
    /// Usable memory.
    Ram = 1,
    /// Not usable by the guest's allocator.
    Reserved = 2,
}

/// The memory map that the kernel is given, ascending and without overlaps.
pub fn e820(memory: &[Range]) -> Vec<(Range, E820Kind)> {
    let mut map = vec![
        (
            Range {
                start: 0,
                len: LOW_MEMORY_END,
            },
            E820Kind::Ram,
        ),
        (
            Range {
                start: ACPI,
                len: HIGH_MEMORY - ACPI,
            },
            E820Kind::Reserved,
        ),
    ];
    for range in memory {
        let start = range.start.max(HIGH_MEMORY);
        let end = range.start + range.len;
        if end > start {
            map.push((
                Range {
                    start,
                    len: end - start,
                },
                E820Kind::Ram,
            ));
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn small_memory_is_one_range() {
        assert_eq!(
            memory_ranges(512 * MIB),
            [Range {
                start: 0,
                len: 512 * MIB
            }]
        );
        assert_eq!(memory_ranges(DEVICE_HOLE).len(), 1);
    }

    #[test]
    fn large_memory_goes_around_the_hole() {
        assert_eq!(
            memory_ranges(DEVICE_HOLE + MIB),
            [
                Range {
                    start: 0,
                    len: DEVICE_HOLE
                },
                Range {
                    start: DEVICE_HOLE_END,
                    len: MIB
                }
            ]
        );
    }

    #[test]
    fn every_virtio_device_has_room() {
        let end = VIRTIO_MMIO + MAX_VIRTIO as u64 * 0x1000;
        assert!(end <= u64::from(IOAPIC));
        const { assert!(EVENT_GSI < 24, "an IOAPIC has 24 lines") };
    }

    proptest! {
        #[test]
        fn the_memory_map_covers_memory_without_overlap(mib in 64u64..=256 * 1024) {
            let memory = memory_ranges(mib * MIB);
            prop_assert_eq!(memory.iter().map(|range| range.len).sum::<u64>(), mib * MIB);
            let map = e820(&memory);
            for pair in map.windows(2) {
                prop_assert!(pair[0].0.start + pair[0].0.len <= pair[1].0.start);
            }
            for (range, kind) in &map {
                let inside = memory.iter().any(|m| m.start <= range.start && range.start + range.len <= m.start + m.len);
                prop_assert!(inside && range.len > 0);
                let touches_hole = range.start < DEVICE_HOLE_END && range.start + range.len > DEVICE_HOLE;
                prop_assert!(*kind != E820Kind::Ram || !touches_hole);
            }
            let ram: u64 = map.iter().filter(|(_, kind)| *kind == E820Kind::Ram).map(|(range, _)| range.len).sum();
            prop_assert_eq!(ram, mib * MIB - (HIGH_MEMORY - LOW_MEMORY_END));
        }
    }
}
