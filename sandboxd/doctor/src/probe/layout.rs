//! The probe guest's memory and tables, as pure data.
//!
//! ```text
//! 0x01000 PML4      0x05000 PD of the fourth GiB (LAPIC)   0x0b000 XSAVE area
//! 0x02000 PDPT      0x06000 mailbox, user may write        0x0c000 IDT
//! 0x03000 PD        0x07000 user stack                     0x0d000 GDT, TSS, table registers
//! 0x04000 PT        0x08000 kernel stack, 0x09000 RSP0     0x10000 code (up to 64 KiB)
//! ```
//!
//! Virtual addresses equal physical ones. Sources: Intel SDM volume 3, 4.5 (paging), 3.4.5 and 8.2
//! (descriptors, TSS), 6.14 (64-bit gates).

use super::guest::Offsets;

/// Size of guest memory in bytes.
pub const MEMORY: usize = 2 << 20;
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const PD: usize = 0x3000;
const PT: usize = 0x4000;
const PD_HIGH: usize = 0x5000;
/// Page through which guest and host exchange values.
pub const MAILBOX: u32 = 0x6000;
const USER_STACK: usize = 0x7000;
/// Initial stack pointer of user code.
pub const USER_STACK_TOP: u32 = 0x8000;
/// Initial stack pointer of kernel code.
pub const KERNEL_STACK_TOP: u32 = 0x9000;
const RSP0: u64 = 0xa000;
/// 64-byte-aligned area for XSAVE, all zeros, with scratch space in the rest of its page.
pub const XSAVE_AREA: u32 = 0xb000;
const IDT: usize = 0xc000;
const GDT: usize = 0xd000;
const TSS: usize = 0xd100;
/// Operand of `lgdt`.
pub const GDTR: u32 = 0xd200;
/// Operand of `lidt`.
pub const IDTR: u32 = 0xd210;
/// Where the blob goes.
pub const CODE: u32 = 0x10000;
/// Most bytes of blob.
pub const CODE_MAX: u32 = 0x10000;
/// Physical address of the local APIC after reset.
pub const LAPIC: u32 = 0xfee0_0000;

/// A stage began.
pub const PORT_START: u8 = 0xe0;
/// A stage passed.
pub const PORT_PASS: u8 = 0xe1;
/// The CPU does not offer what the stage tries.
pub const PORT_ABSENT: u8 = 0xe2;
/// The stage saw a wrong value; the guest stops.
pub const PORT_FAIL: u8 = 0xe3;
/// An exception that was not expected; the guest stops.
pub const PORT_FAULT: u8 = 0xe4;
/// All stages were tried.
pub const PORT_DONE: u8 = 0xe5;

/// Byte offsets in the mailbox.
pub mod field {
    /// `u32`, from the host: bit n asks for stage n.
    pub const MASK: u32 = 0x00;
    /// `u32`: 1 once an exception was recorded.
    pub const FAULTED: u32 = 0x04;
    /// `u64`: vector of the exception.
    pub const FAULT_VECTOR: u32 = 0x08;
    /// `u64`: its error code, 0 where it has none.
    pub const FAULT_ERROR: u32 = 0x10;
    /// `u64`: where it happened.
    pub const FAULT_RIP: u32 = 0x18;
    /// `u64`: in which code segment.
    pub const FAULT_CS: u32 = 0x20;
    /// `u32`: breakpoints handled.
    pub const BREAKPOINTS: u32 = 0x28;
    /// `u32`: timer interrupts handled since the timer was set up.
    pub const TIMERS: u32 = 0x2c;
    /// `u64`: where the kernel goes on after user mode.
    pub const RESUME: u32 = 0x30;
    /// `u32`: CS seen by user code after `iretq`; [`super::UNSET`] until then.
    pub const USER_CS: u32 = 0x38;
    /// `u32`: CS seen by the gate's handler.
    pub const GATE_CS: u32 = 0x3c;
    /// `u32`: CS seen at the `syscall` entry; [`super::UNSET`] until then.
    pub const SYSCALL_CS: u32 = 0x40;
    /// `u32`: CS seen by user code after `sysret`.
    pub const SYSRET_CS: u32 = 0x44;
    /// `u32`: CS that the last timer interrupt came from.
    pub const TIMER_FROM: u32 = 0x48;
    /// `u32`: 1 makes the timer handler leave user mode for good.
    pub const PREEMPT: u32 = 0x4c;
    /// `u32`, from the host: what the kernel GS base must reach.
    pub const GS_MARKER: u32 = 0x50;
}

/// Value of a mailbox field that nobody wrote.
pub const UNSET: u32 = u32::MAX;
const GS_MARKER_VALUE: u32 = 0x5a5a_5a5a;

const PRESENT_WRITABLE: u64 = 0b11;
const USER: u64 = 0b100;
/// Present, writable, write-through, cache-disabled, 2 MiB.
const DEVICE_2M: u64 = 0b1001_1011;

/// Descriptors of the GDT, in the order `syscall` and `sysret` want: null, kernel code, kernel
/// data, (unused 32-bit user code), user data, user code; the TSS follows.
pub const SEGMENTS: [u64; 6] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
];
const TSS_LIMIT: u64 = 103;

/// Fills fresh guest memory: tables, mailbox, code. `None` when the blob does not fit.
pub fn fill(memory: &mut [u8], blob: &[u8], offsets: Offsets, stages: u32) -> Option<()> {
    memory.get(..MEMORY)?;
    if blob.len() > CODE_MAX as usize {
        return None;
    }
    memory[CODE as usize..][..blob.len()].copy_from_slice(blob);
    page_tables(memory, offsets);
    descriptors(memory);
    gates(memory, offsets);
    put_u32(memory, MAILBOX + field::MASK, stages);
    put_u32(memory, MAILBOX + field::USER_CS, UNSET);
    put_u32(memory, MAILBOX + field::SYSCALL_CS, UNSET);
    put_u32(memory, MAILBOX + field::GS_MARKER, GS_MARKER_VALUE);
    Some(())
}

fn page_tables(memory: &mut [u8], offsets: Offsets) {
    let table = |address: usize| address as u64 | PRESENT_WRITABLE | USER;
    put_u64(memory, PML4, table(PDPT));
    put_u64(memory, PDPT, table(PD));
    put_u64(memory, PDPT + 3 * 8, table(PD_HIGH));
    put_u64(memory, PD, table(PT));
    let lapic_entry = (LAPIC as usize >> 21) & 511;
    put_u64(
        memory,
        PD_HIGH + lapic_entry * 8,
        u64::from(LAPIC) & !0x1f_ffff | DEVICE_2M,
    );
    let user_code = (CODE + offsets.user) as usize..(CODE + offsets.user_end) as usize;
    for page in (0..MEMORY).step_by(4096) {
        let for_user = page == MAILBOX as usize || page == USER_STACK || user_code.contains(&page);
        let flags = if for_user {
            PRESENT_WRITABLE | USER
        } else {
            PRESENT_WRITABLE
        };
        put_u64(memory, PT + (page >> 12) * 8, page as u64 | flags);
    }
}

fn descriptors(memory: &mut [u8]) {
    for (index, segment) in SEGMENTS.iter().enumerate() {
        put_u64(memory, GDT + index * 8, *segment);
    }
    let at = GDT + SEGMENTS.len() * 8;
    let base = TSS as u64;
    put_u64(
        memory,
        at,
        TSS_LIMIT | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56,
    );
    put_u64(memory, at + 8, base >> 32);
    put_u64(memory, TSS + 4, RSP0);
    put_u16(memory, TSS + 102, 104);
    put_u16(memory, GDTR as usize, 8 * 8 - 1);
    put_u64(memory, GDTR as usize + 2, GDT as u64);
    put_u16(memory, IDTR as usize, 4095);
    put_u64(memory, IDTR as usize + 2, IDT as u64);
}

fn gates(memory: &mut [u8], offsets: Offsets) {
    for vector in 0..32 {
        gate(memory, vector, offsets.exceptions + vector * 16, 0);
    }
    gate(memory, 0x40, offsets.timer, 0);
    gate(memory, 0x80, offsets.gate, 3);
    gate(memory, 0xff, offsets.spurious, 0);
}

/// A 64-bit interrupt gate to `CODE + offset`, callable from privilege level `level` inwards.
fn gate(memory: &mut [u8], vector: u32, offset: u32, level: u64) {
    let target = u64::from(CODE + offset);
    let low =
        (target & 0xffff) | 0x08 << 16 | (0x8e | level << 5) << 40 | (target >> 16 & 0xffff) << 48;
    put_u64(memory, IDT + vector as usize * 16, low);
    put_u64(memory, IDT + vector as usize * 16 + 8, target >> 32);
}

fn put_u16(memory: &mut [u8], at: usize, value: u16) {
    memory[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put_u32(memory: &mut [u8], at: u32, value: u32) {
    memory[at as usize..at as usize + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(memory: &mut [u8], at: usize, value: u64) {
    memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// What the guest left in the mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// The first unexpected exception.
    pub fault: Option<Fault>,
    /// CS of user code after `iretq`, when it was reached.
    pub user_cs: Option<u32>,
    /// CS at the `syscall` entry, when it was reached.
    pub syscall_cs: Option<u32>,
}

/// An exception as the guest's handler saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Vector number.
    pub vector: u64,
    /// Error code, 0 where the vector has none.
    pub error: u64,
    /// Address of the instruction.
    pub rip: u64,
    /// Code segment it ran in.
    pub cs: u64,
}

impl Mailbox {
    /// Reads the mailbox out of guest memory.
    #[must_use]
    pub fn read(memory: &[u8]) -> Self {
        let u32_at = |offset: u32| {
            let at = (MAILBOX + offset) as usize;
            memory
                .get(at..at + 4)
                .map_or(UNSET, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        };
        let u64_at = |offset: u32| u64::from(u32_at(offset)) | u64::from(u32_at(offset + 4)) << 32;
        let fault = (u32_at(field::FAULTED) == 1).then(|| Fault {
            vector: u64_at(field::FAULT_VECTOR),
            error: u64_at(field::FAULT_ERROR),
            rip: u64_at(field::FAULT_RIP),
            cs: u64_at(field::FAULT_CS),
        });
        let set = |offset| Some(u32_at(offset)).filter(|cs| *cs != UNSET);
        Self {
            fault,
            user_cs: set(field::USER_CS),
            syscall_cs: set(field::SYSCALL_CS),
        }
    }
}

/// Control registers and entry point for the start in 64-bit mode.
pub mod start {
    /// CR0: protected mode, paging, write protection, monitor co-processor, native FPU errors.
    pub const CR0: u64 = 1 << 31 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1;
    /// CR3: the PML4.
    pub const CR3: u64 = super::PML4 as u64;
    /// CR4: physical address extension, FXSAVE and SSE exceptions.
    pub const CR4: u64 = 1 << 10 | 1 << 9 | 1 << 5;
    /// EFER: long mode enabled and active.
    pub const EFER: u64 = 1 << 10 | 1 << 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: Offsets = Offsets {
        entry: 28,
        exceptions: 0x400,
        timer: 0x700,
        gate: 0x740,
        spurious: 0x760,
        user: 0x1000,
        user_end: 0x1020,
    };

    fn filled() -> Vec<u8> {
        let mut memory = vec![0; MEMORY];
        fill(&mut memory, &[0x90; 0x2000], OFFSETS, 0x3ffe).unwrap();
        memory
    }

    fn u64_at(memory: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(memory[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn only_the_mailbox_the_user_stack_and_user_code_are_open_to_user_mode() {
        let memory = filled();
        let open: Vec<usize> = (0..512)
            .filter(|page| u64_at(&memory, PT + page * 8) & USER != 0)
            .map(|page| page * 4096)
            .collect();
        assert_eq!(open, [0x6000, 0x7000, 0x11000]);
    }

    #[test]
    fn the_local_apic_is_mapped_uncached_at_its_own_address() {
        let memory = filled();
        assert_eq!(u64_at(&memory, PD_HIGH + 503 * 8), 0xfee0_0000 | DEVICE_2M);
    }

    #[test]
    fn gates_point_into_the_code_and_only_one_is_open_to_user_mode() {
        let memory = filled();
        for vector in 0..256_usize {
            let low = u64_at(&memory, IDT + vector * 16);
            let target = low & 0xffff | (low >> 48) << 16;
            let level = low >> 45 & 3;
            assert_eq!(level == 3, vector == 0x80, "vector {vector:#x}");
            let expected = match vector {
                0..=31 => 0x10400 + vector as u64 * 16,
                0x40 => 0x10700,
                0x80 => 0x10740,
                0xff => 0x10760,
                _ => 0,
            };
            assert_eq!(target, expected, "vector {vector:#x}");
        }
    }

    #[test]
    fn the_tss_descriptor_names_the_tss() {
        let memory = filled();
        let low = u64_at(&memory, GDT + 0x30);
        assert_eq!(low & 0xffff, TSS_LIMIT);
        assert_eq!(low >> 16 & 0xff_ffff, TSS as u64);
        assert_eq!(low >> 40 & 0xff, 0x89);
        assert_eq!(u64_at(&memory, TSS + 4), RSP0);
    }

    #[test]
    fn an_untouched_mailbox_reads_as_nothing() {
        assert_eq!(Mailbox::read(&filled()), Mailbox::default());
        assert_eq!(Mailbox::read(&[]).fault, None);
    }

    #[test]
    fn too_large_a_blob_is_refused() {
        let mut memory = vec![0; MEMORY];
        assert_eq!(
            fill(&mut memory, &vec![0; CODE_MAX as usize + 1], OFFSETS, 0),
            None
        );
        assert_eq!(fill(&mut memory[..4096], &[], OFFSETS, 0), None);
    }
}
