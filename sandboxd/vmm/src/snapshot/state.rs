//! The `state` file: everything of a machine that is neither memory nor disk.
//!
//! ```text
//!   0   magic "SBXSTATE"              24  CRC-32 of everything from byte 32 on
//!   8   version, u32 (1)              28  CRC-32 of bytes 0 to 27
//!   12  number of sections, u32       32  sections, one after the other
//!   16  length of the file, u64
//!
//!   section: kind u16 │ index u16 │ length u32 │ bytes │ zeroes up to a multiple of 8        all little-endian
//! ```
//!
//! Registers are kept as the kernel's own structures, whose layout is its interface and does not change; devices are kept as
//! JSON, because ours may. Every section is there exactly once, in a fixed order, so there is one good file for a state.

use kvm_bindings::kvm_irqchip;
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::extents::{Extents, ExtentsError};
use crate::arch::x86_64::vcpu_state::VcpuState;
use crate::arch::x86_64::vm_state::VmState;
use crate::config::MAX_VCPUS;
use crate::devices::legacy::serial::SerialState;
use crate::devices::virtio::mmio::TransportState;
use crate::machine::DevicesState;

/// Name of the file.
pub const NAME: &str = "state";
const MAGIC: [u8; 8] = *b"SBXSTATE";
const VERSION: u32 = 1;
const HEADER: usize = 32;
const SECTION: usize = 8;

/// Kinds of sections. Numbers are never used twice.
mod kind {
    pub const DEVICES: u16 = 1;
    pub const EXTENTS: u16 = 2;
    pub const CLOCK: u16 = 3;
    pub const IRQCHIP: u16 = 4;
    pub const MP_STATE: u16 = 16;
    pub const REGS: u16 = 17;
    pub const SREGS: u16 = 18;
    pub const XSAVE: u16 = 19;
    pub const XCRS: u16 = 20;
    pub const DEBUGREGS: u16 = 21;
    pub const LAPIC: u16 = 22;
    pub const EVENTS: u16 = 23;
    pub const MSRS: u16 = 24;
    pub const TSC_KHZ: u16 = 25;
}

/// Why a state file is refused.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is something else.
    #[error("it is not a state file of ours: its magic bytes are missing")]
    Magic,
    /// It was written by another version.
    #[error("it has format version {0}, but this program reads version {VERSION}")]
    Version(u32),
    /// The checksum does not match.
    #[error("it is damaged: the checksum of its {0} does not match")]
    Checksum(&'static str),
    /// It ends too early or too late.
    #[error("it is cut short, or something follows it")]
    Length,
    /// A section is missing, or another stands in its place.
    #[error("section {kind} ({index}) is missing or has another length")]
    Section {
        /// Kind.
        kind: u16,
        /// Which of its kind.
        index: u16,
    },
    /// The devices cannot be read.
    #[error("its devices cannot be read: {0}")]
    Devices(#[from] serde_json::Error),
    /// The extents are damaged.
    #[error(transparent)]
    Extents(#[from] ExtentsError),
}

/// Devices as they stand in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardState {
    /// The serial port.
    pub serial: SerialState,
    /// Registers of each virtio device, in the order of the bus.
    pub transports: Vec<TransportState>,
    /// The virtio devices themselves.
    pub devices: DevicesState,
    /// Nanoseconds since 1970 when the guest was stopped; for people.
    pub wall_ns: u64,
}

/// What is saved of a machine.
#[derive(Debug, Default)]
pub struct SavedState {
    /// Devices.
    pub board: BoardState,
    /// Where each byte of memory is.
    pub extents: Extents,
    /// Interrupt controllers and clock.
    pub vm: VmState,
    /// Virtual CPUs.
    pub vcpus: Vec<VcpuState>,
}

impl SavedState {
    /// The bytes of the file.
    ///
    /// # Errors
    /// When the devices cannot be written as JSON, which does not happen.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        let mut writer = Writer::default();
        writer.put(kind::DEVICES, 0, &serde_json::to_vec(&self.board)?);
        writer.put(kind::EXTENTS, 0, &self.extents.encode());
        writer.put(kind::CLOCK, 0, &self.vm.clock.to_le_bytes());
        for (index, chip) in (0u16..).zip(&self.vm.irqchips) {
            writer.put(kind::IRQCHIP, index, chip.as_bytes());
        }
        for (index, cpu) in (0u16..).zip(&self.vcpus) {
            writer.put(kind::MP_STATE, index, cpu.mp_state.as_bytes());
            writer.put(kind::REGS, index, cpu.regs.as_bytes());
            writer.put(kind::SREGS, index, cpu.sregs.as_bytes());
            writer.put(kind::XSAVE, index, cpu.xsave.as_bytes());
            writer.put(kind::XCRS, index, cpu.xcrs.as_bytes());
            writer.put(kind::DEBUGREGS, index, cpu.debugregs.as_bytes());
            writer.put(kind::LAPIC, index, cpu.lapic.as_bytes());
            writer.put(kind::EVENTS, index, cpu.events.as_bytes());
            let msrs = cpu.msrs.iter().flat_map(|&(number, value)| {
                let number = u64::from(number).to_le_bytes();
                [number, value.to_le_bytes()].into_iter().flatten()
            });
            writer.put(kind::MSRS, index, &msrs.collect::<Vec<u8>>());
            writer.put(kind::TSC_KHZ, index, &cpu.tsc_khz.to_le_bytes());
        }
        Ok(writer.finish())
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader::open(bytes)?;
        let board = serde_json::from_slice(reader.take(kind::DEVICES, 0)?)?;
        let extents = Extents::decode(reader.take(kind::EXTENTS, 0)?)?;
        let mut vm = VmState {
            clock: reader.value(kind::CLOCK, 0)?,
            ..VmState::default()
        };
        for (index, chip) in (0u16..).zip(&mut vm.irqchips) {
            *chip = reader.value::<kvm_irqchip>(kind::IRQCHIP, index)?;
        }
        let mut vcpus = Vec::new();
        while reader.left > 0 && vcpus.len() < usize::from(MAX_VCPUS) {
            let index = u16::try_from(vcpus.len()).unwrap_or(u16::MAX);
            vcpus.push(VcpuState {
                mp_state: reader.value(kind::MP_STATE, index)?,
                regs: reader.value(kind::REGS, index)?,
                sregs: reader.value(kind::SREGS, index)?,
                xsave: reader.value(kind::XSAVE, index)?,
                xcrs: reader.value(kind::XCRS, index)?,
                debugregs: reader.value(kind::DEBUGREGS, index)?,
                lapic: reader.value(kind::LAPIC, index)?,
                events: reader.value(kind::EVENTS, index)?,
                msrs: msrs(reader.take(kind::MSRS, index)?, index)?,
                tsc_khz: reader.value(kind::TSC_KHZ, index)?,
            });
        }
        reader.end()?;
        Ok(Self {
            board,
            extents,
            vm,
            vcpus,
        })
    }
}

fn msrs(bytes: &[u8], index: u16) -> Result<Vec<(u32, u64)>, StateError> {
    let wrong = StateError::Section {
        kind: kind::MSRS,
        index,
    };
    if !bytes.len().is_multiple_of(16) {
        return Err(wrong);
    }
    let mut list = Vec::with_capacity(bytes.len() / 16);
    for entry in bytes.chunks_exact(16) {
        let word = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap_or_default());
        match u32::try_from(word(0)) {
            Ok(number) => list.push((number, word(8))),
            Err(_) => return Err(wrong),
        }
    }
    Ok(list)
}

#[derive(Default)]
struct Writer {
    body: Vec<u8>,
    count: u32,
}

impl Writer {
    fn put(&mut self, kind: u16, index: u16, bytes: &[u8]) {
        // Nothing saved comes near four gigabytes.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.body.extend_from_slice(&kind.to_le_bytes());
        self.body.extend_from_slice(&index.to_le_bytes());
        self.body.extend_from_slice(&len.to_le_bytes());
        self.body.extend_from_slice(bytes);
        self.body.resize(self.body.len().next_multiple_of(8), 0);
        self.count += 1;
    }

    fn finish(self) -> Vec<u8> {
        let mut file = Vec::with_capacity(HEADER + self.body.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&self.count.to_le_bytes());
        file.extend_from_slice(&((HEADER + self.body.len()) as u64).to_le_bytes());
        file.extend_from_slice(&crc32fast::hash(&self.body).to_le_bytes());
        file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
        file.extend_from_slice(&self.body);
        file
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// Sections not yet taken.
    left: u32,
}

impl<'a> Reader<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, StateError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(StateError::Magic);
        }
        let (header, body) = bytes.split_at_checked(HEADER).ok_or(StateError::Length)?;
        let u32_at =
            |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
        if u32_at(8) != VERSION {
            return Err(StateError::Version(u32_at(8)));
        }
        if u32_at(28) != crc32fast::hash(&header[..28]) {
            return Err(StateError::Checksum("header"));
        }
        let len = u64::from_le_bytes(header[16..24].try_into().unwrap_or_default());
        if len != bytes.len() as u64 {
            return Err(StateError::Length);
        }
        if u32_at(24) != crc32fast::hash(body) {
            return Err(StateError::Checksum("contents"));
        }
        Ok(Self {
            rest: body,
            left: u32_at(12),
        })
    }

    /// The next section, which must be this one.
    fn take(&mut self, kind: u16, index: u16) -> Result<&'a [u8], StateError> {
        let wrong = || StateError::Section { kind, index };
        let (head, rest) = self.rest.split_at_checked(SECTION).ok_or_else(wrong)?;
        let u16_at =
            |at: usize| u16::from_le_bytes(head[at..at + 2].try_into().unwrap_or_default());
        if u16_at(0) != kind || u16_at(2) != index || self.left == 0 {
            return Err(wrong());
        }
        let len = u32::from_le_bytes(head[4..8].try_into().unwrap_or_default());
        let len = usize::try_from(len).map_err(|_| wrong())?;
        let padded = len.checked_next_multiple_of(8).ok_or_else(wrong)?;
        let (bytes, rest) = rest.split_at_checked(padded).ok_or_else(wrong)?;
        self.rest = rest;
        self.left -= 1;
        Ok(&bytes[..len])
    }

    fn value<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        kind: u16,
        index: u16,
    ) -> Result<T, StateError> {
        T::read_from_bytes(self.take(kind, index)?).map_err(|_| StateError::Section { kind, index })
    }

    fn end(&self) -> Result<(), StateError> {
        match self.rest.is_empty() && self.left == 0 {
            true => Ok(()),
            false => Err(StateError::Length),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::extents::{Extent, Source};

    fn sample() -> SavedState {
        let mut state = SavedState {
            vcpus: vec![VcpuState::default(), VcpuState::default()],
            ..SavedState::default()
        };
        state.vm.clock = 77;
        state.vm.irqchips[2].chip_id = 2;
        state.vcpus[1].regs.rip = 0x1234;
        state.vcpus[1].msrs = vec![(0x10, 5), (0xc000_0080, 6)];
        state.vcpus[0].tsc_khz = 2_000_000;
        state.extents.push(Extent {
            at: 0,
            len: 4096,
            source: Source::Layer(0),
        });
        state
    }

    #[test]
    fn a_state_comes_back() {
        let bytes = sample().encode().unwrap();
        let state = SavedState::decode(&bytes).unwrap();
        assert_eq!(state.encode().unwrap(), bytes);
        assert_eq!(state.vcpus[1].regs.rip, 0x1234);
        assert_eq!(state.vcpus[1].msrs, [(0x10, 5), (0xc000_0080, 6)]);
        assert_eq!((state.vm.clock, state.vcpus.len()), (77, 2));
        assert_eq!(state.extents, sample().extents);
    }

    #[test]
    fn each_damage_has_its_sentence() {
        let good = sample().encode().unwrap();
        let words = |bytes: &[u8]| SavedState::decode(bytes).unwrap_err().to_string();
        let changed = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            words(&bytes)
        };
        assert!(words(b"").contains("magic"));
        assert!(changed(0).contains("magic"));
        assert!(changed(8).contains("version 0"));
        assert!(changed(12).contains("header"));
        assert!(changed(40).contains("contents"));
        assert!(words(&good[..good.len() - 8]).contains("cut short"));
        assert!(words(&good[..20]).contains("cut short"));
    }

    #[test]
    fn a_section_out_of_place_is_named() {
        let mut writer = Writer::default();
        writer.put(kind::EXTENTS, 0, &[]);
        let error = SavedState::decode(&writer.finish()).unwrap_err();
        assert!(matches!(error, StateError::Section { kind: 1, index: 0 }));
    }

    /// A file with a good checksum over any body.
    fn sealed(body: Vec<u8>, count: u32) -> Vec<u8> {
        Writer { body, count }.finish()
    }

    proptest! {
        #[test]
        fn any_change_is_noticed(at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = sample().encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(SavedState::decode(&bytes).is_err());
        }

        #[test]
        fn any_cut_is_noticed(at: prop::sample::Index) {
            let bytes = sample().encode().unwrap();
            prop_assert!(SavedState::decode(&bytes[..at.index(bytes.len())]).is_err());
        }

        /// Behind a good checksum anything may stand; it is read or refused, and what is read fits where it goes.
        #[test]
        fn any_body_is_survived(at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 1..16), count in 0u32..30) {
            let good = sample().encode().unwrap();
            let mut body = good[HEADER..].to_vec();
            let at = at.index(body.len());
            let end = body.len().min(at + bytes.len());
            body[at..end].copy_from_slice(&bytes[..end - at]);
            let _ = SavedState::decode(&sealed(body.clone(), count));
            body.truncate(at);
            let _ = SavedState::decode(&sealed(body, count));
        }
    }
}
