//! The guest itself, in assembly: position-independent code that the host copies to
//! [`layout::CODE`](super::layout::CODE).
//!
//! It starts in 64-bit mode with paging on and interrupts off, the way a VMM starts a kernel at its
//! 64-bit entry point. Each stage announces itself on port `START`, then reports on `PASS`, `ABSENT`
//! (the CPU does not offer it) or `FAIL`; an unexpected exception writes its record into the
//! mailbox and reports on `FAULT`. The mailbox is a page that user mode may write too, so that even
//! a kernel entry in the wrong privilege level leaves a trace.
//!
//! The blob opens with a table of offsets (`u32` each, from the blob's first byte): entry,
//! exception stubs (16 bytes apart, vectors 0–31), timer, gate, spurious, user code, end of user
//! code. Selectors and addresses are those of `layout`.
//!
//! A leaf module: the blob lies in this program's read-only data and is never executed here.

use super::layout;

core::arch::global_asm!(
    r#"
    .pushsection .rodata.doctor_probe, "a", @progbits
    .balign 4096
    .globl doctor_probe_start
doctor_probe_start:
    .long 10f - doctor_probe_start
    .long 20f - doctor_probe_start
    .long 30f - doctor_probe_start
    .long 40f - doctor_probe_start
    .long 50f - doctor_probe_start
    .long 60f - doctor_probe_start
    .long 70f - doctor_probe_start

    .macro probe_begin stage, next      // leave to `next` unless the host asked for this stage
    testl $(1 << \stage), {MASK}
    jz \next
    movb $\stage, %al
    outb %al, ${START}
    .endm
    .macro probe_report port, stage
    movb $\stage, %al
    outb %al, $\port
    .endm
    .macro probe_expect_one counter
    cmpl $1, \counter
    jne doctor_probe_failed
    .endm
    .macro probe_user target, rflags, resume    // iretq to user; the kernel resumes at `resume`
    leaq \resume(%rip), %rax
    movq %rax, {RESUME}
    pushq $0x23
    pushq ${USER_STACK}
    pushq $\rflags
    pushq $0x2b
    leaq \target(%rip), %rax
    pushq %rax
    iretq
    .endm

10:                                     // ---- 1: long mode is on, say EFER and CR0
    probe_begin 1, 11f
    movl $0xc0000080, %ecx
    rdmsr
    testl $0x400, %eax                  // EFER.LMA
    jz doctor_probe_failed
    movq %cr0, %rbx
    btq $31, %rbx                       // CR0.PG
    jnc doctor_probe_failed
    probe_report {PASS}, 1

11:                                     // ---- 2: GDT, IDT, TSS
    probe_begin 2, doctor_probe_failed  // the host always asks for it
    lgdt {GDTR}
    lidt {IDTR}
    pushq $0x08
    leaq 12f(%rip), %rax
    pushq %rax
    lretq                               // reloads CS from the new table
12:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $0x30, %eax
    ltr %ax
    probe_report {PASS}, 2

    probe_begin 3, 13f                  // ---- 3: a breakpoint exception, and back
    int3
    probe_expect_one {BREAKPOINTS}
    probe_report {PASS}, 3

13:
    probe_begin 4, 14f                  // ---- 4: the per-CPU base of a kernel: swapgs
    movl $0xc0000101, %ecx              // GS base := 0
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
    movl $0xc0000102, %ecx              // kernel GS base := the mailbox
    movl ${MAILBOX}, %eax
    wrmsr
    swapgs
    movl %gs:{GS_OFFSET}, %ebx
    swapgs
    cmpl $0x5a5a5a5a, %ebx
    jne doctor_probe_failed
    probe_report {PASS}, 4

14:
    probe_begin 5, 15f                  // ---- 5: kernel to user and back by an interrupt gate
    probe_user 61f, 0x2, 1f
1:  movq ${KERNEL_STACK}, %rsp
    cmpl $0x2b, {USER_CS}
    jne doctor_probe_failed
    cmpl $0x08, {GATE_CS}
    jne doctor_probe_failed
    probe_report {PASS}, 5

15:
    probe_begin 6, 16f                  // ---- 6: syscall must arrive in CPL 0; sysret must return
    movl $0xc0000080, %ecx
    rdmsr
    orl $1, %eax                        // EFER.SCE
    wrmsr
    movl $0xc0000081, %ecx              // STAR: kernel 0x08, user base 0x18
    xorl %eax, %eax
    movl $0x00180008, %edx
    wrmsr
    incl %ecx                           // LSTAR
    leaq 64f(%rip), %rax
    movq %rax, %rdx
    shrq $32, %rdx
    wrmsr
    movl $0xc0000084, %ecx              // FMASK: interrupts, direction, trap, nested task off
    movl $0x4700, %eax
    xorl %edx, %edx
    wrmsr
    probe_user 62f, 0x2, 1f
1:  movq ${KERNEL_STACK}, %rsp
    cmpl $0x08, {SYSCALL_CS}
    jne doctor_probe_failed
    cmpl $0x2b, {SYSRET_CS}
    jne doctor_probe_failed
    probe_report {PASS}, 6

16:
    movl ${LAPIC}, %ebx
    probe_begin 7, 17f                  // ---- 7: one-shot LAPIC timer wakes a halted kernel
    call doctor_probe_lapic
    movl $0x40, 0x320(%rbx)             // LVT timer: one-shot, vector 0x40
    movl $100000, 0x380(%rbx)           // initial count
    call doctor_probe_wait
    probe_report {PASS}, 7

17:
    probe_begin 8, 18f                  // ---- 8: TSC-deadline timer
    pushq %rbx
    movl $1, %eax
    cpuid
    popq %rbx
    btl $24, %ecx
    jc 1f
    probe_report {ABSENT}, 8
    jmp 18f
1:  call doctor_probe_lapic
    movl $0x40040, 0x320(%rbx)          // LVT timer: TSC-deadline, vector 0x40
    mfence                              // the MMIO write goes before the MSR write (SDM 11.5.4.1)
    rdtsc
    addl $1000000, %eax
    adcl $0, %edx
    movl $0x6e0, %ecx
    wrmsr
    call doctor_probe_wait
    probe_report {PASS}, 8

18:
    probe_begin 9, 19f                  // ---- 9: the timer takes the CPU from user mode
    call doctor_probe_lapic
    movl $1, {PREEMPT}
    movl $0x40, 0x320(%rbx)
    movl $100000, 0x380(%rbx)
    probe_user 63f, 0x202, 1f
1:  movq ${KERNEL_STACK}, %rsp
    movl $0, {PREEMPT}
    cmpl $0x2b, {TIMER_FROM}
    jne doctor_probe_failed
    probe_report {PASS}, 9

19:
    probe_begin 10, 21f                 // ---- 10: XSAVE and XRSTOR of a known SSE register
    movl $1, %eax
    cpuid
    btl $26, %ecx
    jc 1f
    probe_report {ABSENT}, 10
    jmp 21f
1:  movq %cr4, %rax
    orq $0x40000, %rax                  // CR4.OSXSAVE
    movq %rax, %cr4
    xorl %ecx, %ecx
    movl $3, %eax                       // XCR0: x87 and SSE
    xorl %edx, %edx
    xsetbv
    movl ${XSAVE_AREA}, %edi
    movl $0x13572468, 0x404(%rdi)
    movups 0x400(%rdi), %xmm0
    movl $3, %eax
    xorl %edx, %edx
    xsave (%rdi)
    movups 0x500(%rdi), %xmm0           // zeros
    movl $3, %eax
    xorl %edx, %edx
    xrstor (%rdi)
    movups %xmm0, 0x600(%rdi)
    cmpl $0x13572468, 0x604(%rdi)
    jne doctor_probe_failed
    probe_report {PASS}, 10

21:
    probe_begin 11, 22f                 // ---- 11: CMPXCHG16B
    movl $1, %eax
    cpuid
    btl $13, %ecx
    jc 1f
    probe_report {ABSENT}, 11
    jmp 22f
1:  movl ${XSAVE_AREA} + 0x800, %edi    // sixteen zero bytes
    xorl %eax, %eax
    xorl %edx, %edx
    movl $0x11, %ebx
    movl $0x22, %ecx
    lock cmpxchg16b (%rdi)
    jnz doctor_probe_failed
    cmpq $0x11, (%rdi)
    jne doctor_probe_failed
    cmpq $0x22, 8(%rdi)
    jne doctor_probe_failed
    probe_report {PASS}, 11

22:
    probe_begin 12, 23f                 // ---- 12: POPCNT
    movl $1, %eax
    cpuid
    btl $23, %ecx
    jc 1f
    probe_report {ABSENT}, 12
    jmp 23f
1:  movl $0xf0f1, %eax
    popcntl %eax, %eax
    cmpl $9, %eax
    jne doctor_probe_failed
    probe_report {PASS}, 12

23:
    probe_begin 13, 24f                 // ---- 13: CLAC and STAC, on each user access of a kernel
    xorl %ecx, %ecx
    movl $7, %eax
    cpuid
    btl $20, %ebx
    jc 1f
    probe_report {ABSENT}, 13
    jmp 24f
1:  clac
    stac
    clac
    probe_report {PASS}, 13

24:
    outb %al, ${DONE}
    jmp doctor_probe_halt

doctor_probe_failed:                    // a stage saw a wrong value
    outb %al, ${FAIL}
doctor_probe_halt:
    cli
    hlt
    jmp doctor_probe_halt

doctor_probe_lapic:                     // LAPIC on, all priorities accepted, divide by 1
    movl $0, {TIMERS}
    movl ${LAPIC}, %ebx
    movl $0x1ff, 0xf0(%rbx)
    movl $0, 0x80(%rbx)
    movl $0xb, 0x3e0(%rbx)
    ret
doctor_probe_wait:                      // halt until the timer came
    cmpl $0, {TIMERS}
    jne 1f
    sti
    hlt
    cli
    jmp doctor_probe_wait
1:  ret

    .balign 16
20:                                     // exception stubs: [vector][error code] on the stack
    .set doctor_probe_vector, 0
    .rept 32
    .balign 16
    .if (0x60227d00 >> doctor_probe_vector) & 1
    .else
    pushq $0                            // this vector pushes no error code itself
    .endif
    pushq $doctor_probe_vector
    jmp doctor_probe_exception
    .set doctor_probe_vector, doctor_probe_vector + 1
    .endr
    .balign 16
doctor_probe_exception:
    cmpq $3, (%rsp)
    jne 1f
    incl {BREAKPOINTS}
    addq $16, %rsp
    iretq
1:  cmpl $0, {FAULTED}                  // only the first record counts
    jne 2f
    movl $1, {FAULTED}
    movq (%rsp), %rax
    movq %rax, {FAULT_VECTOR}
    movq 8(%rsp), %rax
    movq %rax, {FAULT_ERROR}
    movq 16(%rsp), %rax
    movq %rax, {FAULT_RIP}
    movq 24(%rsp), %rax
    movq %rax, {FAULT_CS}
2:  outb %al, ${FAULT}
    jmp doctor_probe_halt

30:                                     // vector 0x40: the timer
    pushq %rax
    pushq %rbx
    incl {TIMERS}
    movl 24(%rsp), %eax                 // CS of what was interrupted
    movl %eax, {TIMER_FROM}
    movl ${LAPIC}, %ebx
    movl $0, 0xb0(%rbx)                 // end of interrupt
    cmpl $0, {PREEMPT}
    je 1f
    jmpq *{RESUME}                      // leaves the user frame for good
1:  popq %rbx
    popq %rax
    iretq

40:                                     // vector 0x80: user mode calls back
    movl %cs, %eax
    movl %eax, {GATE_CS}
    jmpq *{RESUME}

50:                                     // vector 0xff: spurious
    iretq

    .balign 4096
60:                                     // ---- user mode, in pages of its own
61: movl %cs, %eax
    movl %eax, {USER_CS}
    int $0x80
    ud2
62: syscall
    movl %cs, %eax
    movl %eax, {SYSRET_CS}
    int $0x80
    ud2
63: pause
    jmp 63b
64: movl %cs, %eax                      // LSTAR; in a user page so that it runs in any CPL
    movl %eax, {SYSCALL_CS}
    testb $3, %al
    jz 1f
    ud2                                 // not CPL 0: no kernel could go on from here
1:  sysretq
70:
    .balign 4096
    .globl doctor_probe_end
doctor_probe_end:
    .purgem probe_begin
    .purgem probe_report
    .purgem probe_expect_one
    .purgem probe_user
    .popsection
    "#,
    START = const layout::PORT_START,
    PASS = const layout::PORT_PASS,
    ABSENT = const layout::PORT_ABSENT,
    FAIL = const layout::PORT_FAIL,
    FAULT = const layout::PORT_FAULT,
    DONE = const layout::PORT_DONE,
    GDTR = const layout::GDTR,
    IDTR = const layout::IDTR,
    LAPIC = const layout::LAPIC,
    KERNEL_STACK = const layout::KERNEL_STACK_TOP,
    USER_STACK = const layout::USER_STACK_TOP,
    XSAVE_AREA = const layout::XSAVE_AREA,
    MAILBOX = const layout::MAILBOX,
    GS_OFFSET = const layout::field::GS_MARKER,
    MASK = const layout::MAILBOX + layout::field::MASK,
    FAULTED = const layout::MAILBOX + layout::field::FAULTED,
    FAULT_VECTOR = const layout::MAILBOX + layout::field::FAULT_VECTOR,
    FAULT_ERROR = const layout::MAILBOX + layout::field::FAULT_ERROR,
    FAULT_RIP = const layout::MAILBOX + layout::field::FAULT_RIP,
    FAULT_CS = const layout::MAILBOX + layout::field::FAULT_CS,
    BREAKPOINTS = const layout::MAILBOX + layout::field::BREAKPOINTS,
    TIMERS = const layout::MAILBOX + layout::field::TIMERS,
    RESUME = const layout::MAILBOX + layout::field::RESUME,
    USER_CS = const layout::MAILBOX + layout::field::USER_CS,
    GATE_CS = const layout::MAILBOX + layout::field::GATE_CS,
    SYSCALL_CS = const layout::MAILBOX + layout::field::SYSCALL_CS,
    SYSRET_CS = const layout::MAILBOX + layout::field::SYSRET_CS,
    TIMER_FROM = const layout::MAILBOX + layout::field::TIMER_FROM,
    PREEMPT = const layout::MAILBOX + layout::field::PREEMPT,
    options(att_syntax)
);

unsafe extern "C" {
    static doctor_probe_start: u8;
    static doctor_probe_end: u8;
}

/// The guest's bytes.
pub fn blob() -> &'static [u8] {
    let (start, end) = (&raw const doctor_probe_start, &raw const doctor_probe_end);
    // SAFETY: both symbols bound one read-only object of this program, start before end.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Where things lie in the blob, from its opening table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// First instruction.
    pub entry: u32,
    /// Stub of vector 0; the others follow 16 bytes apart.
    pub exceptions: u32,
    /// Timer handler.
    pub timer: u32,
    /// Handler of the gate user mode may call.
    pub gate: u32,
    /// Handler of spurious interrupts.
    pub spurious: u32,
    /// First byte of user code, page-aligned.
    pub user: u32,
    /// End of user code.
    pub user_end: u32,
}

impl Offsets {
    /// Reads the opening table.
    pub fn of(blob: &[u8]) -> Option<Self> {
        let mut words = blob
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        Some(Self {
            entry: words.next()?,
            exceptions: words.next()?,
            timer: words.next()?,
            gate: words.next()?,
            spurious: words.next()?,
            user: words.next()?,
            user_end: words.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opening_table_describes_the_blob() {
        let blob = blob();
        let offsets = Offsets::of(blob).unwrap();
        let len = u32::try_from(blob.len()).unwrap();
        assert_eq!(len % 4096, 0);
        assert!(len <= layout::CODE_MAX);
        assert_eq!(offsets.entry, 28);
        assert_eq!(offsets.exceptions % 16, 0);
        assert_eq!(offsets.user % 4096, 0);
        assert!(offsets.exceptions + 32 * 16 <= offsets.timer);
        assert!(offsets.timer < offsets.gate && offsets.gate < offsets.spurious);
        assert!(offsets.spurious < offsets.user && offsets.user < offsets.user_end);
        assert!(offsets.user_end <= len);
    }

    #[test]
    fn each_exception_stub_pushes_its_own_vector() {
        let blob = blob();
        let exceptions = Offsets::of(blob).unwrap().exceptions as usize;
        for vector in 0..32_u8 {
            let stub = &blob[exceptions + usize::from(vector) * 16..][..16];
            let has_error_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
            let expected: &[u8] = if has_error_code {
                &[0x6a, vector]
            } else {
                &[0x6a, 0, 0x6a, vector]
            };
            assert!(stub.starts_with(expected), "vector {vector}: {stub:x?}");
        }
    }

    #[test]
    fn a_short_blob_has_no_table() {
        assert_eq!(Offsets::of(&[0; 27]), None);
    }
}
