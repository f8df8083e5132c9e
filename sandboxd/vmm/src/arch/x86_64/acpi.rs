//! ACPI tables of a hardware-reduced machine (ACPI 6.5, 4.1): no legacy timer, no legacy interrupt controller, no SCI.
//!
//! ```text
//!   RSDP ─► XSDT ─► FADT ─► DSDT: \_SB_.{COM1, V000.., VGEN, GED_, PEVT}, \_S5_
//!                └► MADT: one local APIC per CPU, one IOAPIC
//! ```
//!
//! The DSDT announces what cannot be probed: virtio-mmio devices (`LNRO0005`), the VM generation id and the generic
//! event device that signals its change, the panic port (`QEMU0001`). The FADT gives the guest registers to power off and
//! to reset with; both end the VMM.

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use vm_memory::{Bytes, GuestAddress};

use super::layout;
use crate::devices::legacy::power;
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::mmio::MMIO_SIZE;

const OEM: [u8; 6] = *b"SBOXD ";
const TABLE: [u8; 8] = *b"MICROVM ";
const REVISION: u32 = 1;
/// Bytes of an ACPI table header.
const HEADER: u32 = 36;
/// No VGA, no CMOS clock, no message-signalled interrupts (ACPI 6.5, table 5.10).
const BOOT_ARCH: u16 = 1 << 2 | 1 << 3 | 1 << 5;
/// Notification value that means "the generation id changed" (Microsoft, Virtual Machine Generation ID).
const GENERATION_CHANGED: u8 = 0x80;

/// Why the tables could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AcpiError {
    /// The tables outgrew their place.
    #[error("the ACPI tables take {0} bytes, more than the {max} kept for them", max = layout::ACPI_SIZE)]
    TooLarge(usize),
    /// A device lies where 32-bit resources do not reach.
    #[error("the device at {0:#x} is out of reach of a 32-bit resource")]
    Address(u64),
    /// Guest memory does not reach as far as the tables.
    #[error("the ACPI tables do not fit into guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// A virtio-mmio device to announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioSlot {
    /// Address of its registers.
    pub address: u64,
    /// Its interrupt.
    pub gsi: u32,
}

/// Writes all tables and returns the address of the RSDP.
///
/// # Errors
/// See [`AcpiError`].
pub fn write(memory: &GuestMemory, cpus: u8, virtio: &[VirtioSlot]) -> Result<u64, AcpiError> {
    let mut place = Place {
        next: layout::ACPI + Rsdp::len() as u64,
        bytes: vec![0; Rsdp::len()],
    };
    let dsdt = place.put(&dsdt(virtio)?);
    let fadt = place.put(&fadt(dsdt));
    let madt = place.put(&madt(cpus));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place.put(&xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    place.bytes[..rsdp.len()].copy_from_slice(&rsdp);
    if place.bytes.len() as u64 > layout::ACPI_SIZE {
        return Err(AcpiError::TooLarge(place.bytes.len()));
    }
    memory.write_slice(&place.bytes, GuestAddress(layout::ACPI))?;
    Ok(layout::ACPI)
}

/// Tables one after the other, each aligned to 8 bytes.
struct Place {
    next: u64,
    bytes: Vec<u8>,
}

impl Place {
    fn put(&mut self, table: &dyn Aml) -> u64 {
        while !self.next.is_multiple_of(8) {
            self.bytes.push(0);
            self.next += 1;
        }
        let address = self.next;
        table.to_aml_bytes(&mut self.bytes);
        self.next = layout::ACPI + self.bytes.len() as u64;
        address
    }
}

fn fadt(dsdt: u64) -> impl Aml {
    let port = |offset: u16| {
        let address = u64::from(layout::POWER + offset);
        GAS::new(
            AddressSpace::SystemIo,
            8,
            0,
            AccessSize::ByteAccess,
            address,
        )
    };
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = BOOT_ARCH.into();
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.finalize()
}

fn madt(cpus: u8) -> impl Aml {
    let controller = LocalInterruptController::Address(layout::LOCAL_APIC);
    let mut madt = MADT::new(OEM, TABLE, REVISION, controller);
    for cpu in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC, 0));
    madt
}

fn dsdt(virtio: &[VirtioSlot]) -> Result<Sdt, AcpiError> {
    let mut devices = Vec::new();
    serial(&mut devices);
    for (index, slot) in virtio.iter().enumerate() {
        virtio_device(&mut devices, index, *slot)?;
    }
    generation_id(&mut devices);
    panic_port(&mut devices);

    let mut dsdt = Sdt::new(*b"DSDT", HEADER, 2, OEM, TABLE, REVISION);
    dsdt.append_slice(&aml::Scope::raw("\\_SB_".into(), devices));
    let sleep = aml::Package::new(vec![&power::SLEEP_TYPE_OFF, &0u8, &0u8, &0u8]);
    let mut sleep_state = Vec::new();
    aml::Name::new("_S5_".into(), &sleep).to_aml_bytes(&mut sleep_state);
    dsdt.append_slice(&sleep_state);
    Ok(dsdt)
}

fn interrupt(gsi: u32) -> aml::Interrupt {
    // Consumer, edge-triggered, active high, exclusive: how an irqfd without resampling behaves.
    aml::Interrupt::new(true, true, false, false, gsi)
}

fn serial(out: &mut Vec<u8>) {
    let ports = aml::IO::new(layout::COM1, layout::COM1, 1, 8);
    let interrupt = interrupt(layout::SERIAL_GSI);
    let resources = aml::ResourceTemplate::new(vec![&ports, &interrupt]);
    let hid = aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501"));
    let uid = aml::Name::new("_UID".into(), &0u8);
    let crs = aml::Name::new("_CRS".into(), &resources);
    aml::Device::new("COM1".into(), vec![&hid, &uid, &crs]).to_aml_bytes(out);
}

fn virtio_device(out: &mut Vec<u8>, index: usize, slot: VirtioSlot) -> Result<(), AcpiError> {
    let base = u32::try_from(slot.address).map_err(|_| AcpiError::Address(slot.address))?;
    let len = u32::try_from(MMIO_SIZE).unwrap_or(u32::MAX);
    let registers = aml::Memory32Fixed::new(true, base, len);
    let interrupt = interrupt(slot.gsi);
    let resources = aml::ResourceTemplate::new(vec![&registers, &interrupt]);
    let hid = aml::Name::new("_HID".into(), &"LNRO0005");
    let uid = aml::Name::new("_UID".into(), &index);
    let coherent = aml::Name::new("_CCA".into(), &1u8);
    let crs = aml::Name::new("_CRS".into(), &resources);
    let name = format!("V{index:03X}");
    aml::Device::new(name.as_str().into(), vec![&hid, &uid, &coherent, &crs]).to_aml_bytes(out);
    Ok(())
}

fn generation_id(out: &mut Vec<u8>) {
    let [low, high] = [layout::VMGENID & 0xffff_ffff, layout::VMGENID >> 32];
    let [low, high] = [low, high].map(|half| u32::try_from(half).unwrap_or_default());
    let address = aml::Package::new(vec![&low, &high]);
    let hid = aml::Name::new("_HID".into(), &"SBXD0001");
    let cid = aml::Name::new("_CID".into(), &"VM_Gen_Counter");
    let ddn = aml::Name::new("_DDN".into(), &"VM_Gen_Counter");
    let addr = aml::Name::new("ADDR".into(), &address);
    aml::Device::new("VGEN".into(), vec![&hid, &cid, &ddn, &addr]).to_aml_bytes(out);

    let target = aml::Path::new("\\_SB_.VGEN");
    let notify = aml::Notify::new(&target, &GENERATION_CHANGED);
    let event = aml::Method::new("_EVT".into(), 1, true, vec![&notify]);
    let interrupt = interrupt(layout::EVENT_GSI);
    let resources = aml::ResourceTemplate::new(vec![&interrupt]);
    let hid = aml::Name::new("_HID".into(), &"ACPI0013");
    let uid = aml::Name::new("_UID".into(), &0u8);
    let crs = aml::Name::new("_CRS".into(), &resources);
    aml::Device::new("GED_".into(), vec![&hid, &uid, &crs, &event]).to_aml_bytes(out);
}

fn panic_port(out: &mut Vec<u8>) {
    let ports = aml::IO::new(layout::PVPANIC, layout::PVPANIC, 1, 1);
    let resources = aml::ResourceTemplate::new(vec![&ports]);
    let hid = aml::Name::new("_HID".into(), &"QEMU0001");
    let status = aml::Name::new("_STA".into(), &0xfu8);
    let crs = aml::Name::new("_CRS".into(), &resources);
    aml::Device::new("PEVT".into(), vec![&hid, &status, &crs]).to_aml_bytes(out);
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryMmap;

    use super::*;

    fn written(cpus: u8, devices: usize) -> GuestMemory {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let slots: Vec<_> = (0..devices)
            .map(|index| VirtioSlot {
                address: layout::VIRTIO_MMIO + index as u64 * MMIO_SIZE,
                gsi: layout::VIRTIO_GSI + u32::try_from(index).unwrap(),
            })
            .collect();
        assert_eq!(write(&memory, cpus, &slots).unwrap(), layout::ACPI);
        memory
    }

    fn read(memory: &GuestMemory, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn table(memory: &GuestMemory, at: u64) -> Vec<u8> {
        let len: u32 = memory.read_obj(GuestAddress(at + 4)).unwrap();
        let table = read(memory, at, len as usize);
        assert_eq!(
            table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
            0,
            "checksum"
        );
        table
    }

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn count(haystack: &[u8], needle: &[u8]) -> usize {
        haystack
            .windows(needle.len())
            .filter(|window| *window == needle)
            .count()
    }

    #[test]
    fn every_table_is_reached_and_sound() {
        let memory = written(3, 6);
        let rsdp = read(&memory, layout::ACPI, Rsdp::len());
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        let xsdt = table(&memory, word(&rsdp, 24));
        let (fadt, madt) = (
            table(&memory, word(&xsdt, 36)),
            table(&memory, word(&xsdt, 44)),
        );
        assert_eq!((&fadt[..4], &madt[..4]), (&b"FACP"[..], &b"APIC"[..]));
        let dsdt = table(&memory, word(&fadt, 140));
        assert_eq!(&dsdt[..4], b"DSDT");
        assert_eq!(count(&dsdt, b"LNRO0005"), 6);
        for name in [&b"COM1"[..], b"V000", b"V005", b"GED_", b"PEVT", b"_S5_"] {
            assert_eq!(count(&dsdt, name), 1, "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(
            count(&dsdt, b"VGEN"),
            2,
            "the device, and the notification to it"
        );
        // One local APIC of 8 bytes per CPU and one IOAPIC of 12 behind the 44-byte header.
        assert_eq!(madt.len(), 44 + 3 * 8 + 12);
    }

    #[test]
    fn the_largest_machine_fits() {
        written(crate::config::MAX_VCPUS, layout::MAX_VIRTIO);
    }

    #[test]
    fn a_device_out_of_reach_is_refused() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let far = VirtioSlot {
            address: 1 << 32,
            gsi: 5,
        };
        assert!(matches!(
            write(&memory, 1, &[far]),
            Err(AcpiError::Address(_))
        ));
    }
}
