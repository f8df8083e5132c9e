//! One VM with one CPU: made, run under a time limit, read out, dropped.
//!
//! Ordering: guest memory is registered before the interrupt controller is made, because on some
//! paravirtual KVMs the other order costs milliseconds. The CPU runs on a thread of its own, which
//! the [`watchdog`](super::watchdog) pulls out of `KVM_RUN` when time is up; memory is read only
//! after that thread has ended.
//!
//! A leaf module: unsafe is the mapping of guest memory and one read of `kvm_run`.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use kvm_bindings::{
    KVM_INTERNAL_ERROR_EMULATION, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::guest::{self, Offsets};
use super::layout::{self, MEMORY, Mailbox, start};
use super::stage::{Stage, StageSet};
use super::verdict::{End, Event, Trace};
use super::watchdog::{self, Stop};

/// Address of the three pages VMX needs for real mode, outside of guest memory (api.rst 4.36).
const TSS_ADDRESS: usize = 0xfffb_d000;
/// Messages a run of the guest can send at most: two a stage.
const MAX_EVENTS: usize = 2 * Stage::ALL.len();
/// Bytes of a faulting instruction that are shown.
const SHOWN_BYTES: usize = 8;

/// Runs the stages asked for in a fresh VM for at most `limit`.
pub fn run(kvm: &Kvm, asked: StageSet, limit: Duration) -> Trace {
    let failed = |end| Trace {
        asked,
        events: Vec::new(),
        end,
        mailbox: Mailbox::default(),
    };
    let (mut machine, vcpu) = match Machine::new(kvm, asked) {
        Ok(made) => made,
        Err(end) => return failed(end),
    };
    let outcome = watchdog::run(limit, move |stop| drive(vcpu, stop));
    let (events, mut end) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            return failed(End::Kvm {
                call: "starting the CPU's thread",
                errno,
            });
        }
    };
    // The CPU is gone with its thread, so nothing writes guest memory any more.
    let memory = machine.memory.bytes();
    if let End::Emulation { rip, bytes } = &mut end {
        let at = usize::try_from(*rip).unwrap_or(usize::MAX);
        *bytes = memory.iter().skip(at).take(SHOWN_BYTES).copied().collect();
    }
    Trace {
        asked,
        events,
        end,
        mailbox: Mailbox::read(memory),
    }
}

/// Guest memory: an anonymous private mapping.
struct Memory(NonNull<u8>);

impl Memory {
    fn new() -> Result<Self, rustix::io::Errno> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing else.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), MEMORY, prot, MapFlags::PRIVATE) }?;
        NonNull::new(at.cast())
            .map(Self)
            .ok_or(rustix::io::Errno::NOMEM)
    }

    /// The bytes, for use while no CPU runs.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has MEMORY bytes, lives as long as self, and self is borrowed
        // mutably; the one CPU that shares it runs only inside `watchdog::run`, during which
        // nobody calls this.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), MEMORY) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`, which nothing refers to any more.
        // Nothing can be done about a failure, and the process keeps a harmless mapping.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), MEMORY) };
    }
}

/// Fields drop in order: the VM lets go of the memory before it is unmapped.
struct Machine {
    _vm: VmFd,
    memory: Memory,
}

impl Machine {
    fn new(kvm: &Kvm, asked: StageSet) -> Result<(Self, VcpuFd), End> {
        let mut memory = Memory::new().map_err(|e| End::Kvm {
            call: "mmap",
            errno: e.raw_os_error(),
        })?;
        let blob = guest::blob();
        let offsets = Offsets::of(blob)
            .filter(|offsets| layout::fill(memory.bytes(), blob, *offsets, asked.mask()).is_some())
            .ok_or(End::Kvm {
                call: "placing the guest",
                errno: libc::E2BIG,
            })?;
        let vm = kvm.create_vm().map_err(call("KVM_CREATE_VM"))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY as u64,
            userspace_addr: memory.0.as_ptr().addr() as u64,
        };
        // SAFETY: the region is the whole mapping, which lives until after the VM is dropped: the
        // CPU's descriptor keeps the VM alive, but it is closed by the CPU's thread, which has
        // ended by the time the machine is dropped.
        unsafe { vm.set_user_memory_region(region) }.map_err(call("KVM_SET_USER_MEMORY_REGION"))?;
        vm.set_tss_address(TSS_ADDRESS)
            .map_err(call("KVM_SET_TSS_ADDR"))?;
        vm.create_irq_chip().map_err(call("KVM_CREATE_IRQCHIP"))?;
        let vcpu = vm.create_vcpu(0).map_err(call("KVM_CREATE_VCPU"))?;
        set_features(kvm, &vcpu)?;
        set_registers(&vcpu, u64::from(layout::CODE + offsets.entry))?;
        Ok((Self { _vm: vm, memory }, vcpu))
    }
}

fn call(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> End {
    move |error| End::Kvm {
        call,
        errno: error.errno(),
    }
}

/// Shows the guest what KVM supports, as the VMM does; KVM leaves the TSC deadline timer to us.
fn set_features(kvm: &Kvm, vcpu: &VcpuFd) -> Result<(), End> {
    let mut cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(call("KVM_GET_SUPPORTED_CPUID"))?;
    if kvm.check_extension(Cap::TscDeadlineTimer) {
        for entry in cpuid
            .as_mut_slice()
            .iter_mut()
            .filter(|entry| entry.function == 1)
        {
            entry.ecx |= 1 << 24;
        }
    }
    vcpu.set_cpuid2(&cpuid).map_err(call("KVM_SET_CPUID2"))
}

fn set_registers(vcpu: &VcpuFd, entry: u64) -> Result<(), End> {
    let mut sregs = vcpu.get_sregs().map_err(call("KVM_GET_SREGS"))?;
    sregs.cr0 = start::CR0;
    sregs.cr3 = start::CR3;
    sregs.cr4 = start::CR4;
    sregs.efer = start::EFER;
    let flat = kvm_segment {
        limit: u32::MAX,
        present: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment {
        selector: 0x08,
        type_: 0xb,
        l: 1,
        ..flat
    };
    let data = kvm_segment {
        selector: 0x10,
        type_: 0x3,
        db: 1,
        ..flat
    };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    vcpu.set_sregs(&sregs).map_err(call("KVM_SET_SREGS"))?;
    let regs = kvm_regs {
        rip: entry,
        rsp: u64::from(layout::KERNEL_STACK_TOP),
        rflags: 2,
        ..kvm_regs::default()
    };
    vcpu.set_regs(&regs).map_err(call("KVM_SET_REGS"))
}

/// Runs the CPU until the guest ends, something stops it, or the watchdog asks.
fn drive(mut vcpu: VcpuFd, stop: &Arc<Stop>) -> (Vec<Event>, End) {
    let mut events = Vec::new();
    let end = loop {
        if stop.asked() {
            break End::TimedOut {
                rip: vcpu.get_regs().ok().map(|regs| regs.rip),
            };
        }
        match vcpu.run() {
            Ok(VcpuExit::IoOut(port, data)) => {
                let number = data.first().copied().unwrap_or(0);
                match message(port, number) {
                    Message::Event(event) if events.len() < MAX_EVENTS => events.push(event),
                    Message::Event(_) => break End::Unexpected("too many messages".to_owned()),
                    Message::End(end) => break end,
                }
            }
            Ok(VcpuExit::Intr) => {}
            Ok(VcpuExit::Shutdown) => break End::Shutdown,
            Ok(VcpuExit::FailEntry(reason, _)) => break End::EntryFailed { reason },
            Ok(VcpuExit::InternalError) => break internal_error(&mut vcpu),
            Ok(other) => break End::Unexpected(format!("{other:?}")),
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {}
            Err(error) => {
                break End::Kvm {
                    call: "KVM_RUN",
                    errno: error.errno(),
                };
            }
        }
    };
    (events, end)
}

enum Message {
    Event(Event),
    End(End),
}

fn message(port: u16, number: u8) -> Message {
    let event = |make: fn(Stage) -> Event| match Stage::from_number(number) {
        Some(stage) => Message::Event(make(stage)),
        None => Message::End(End::Unexpected(format!("message on a stage {number}"))),
    };
    match u8::try_from(port) {
        Ok(layout::PORT_START) => event(Event::Started),
        Ok(layout::PORT_PASS) => event(Event::Passed),
        Ok(layout::PORT_ABSENT) => event(Event::Absent),
        Ok(layout::PORT_FAIL) => Message::End(End::WrongValue),
        Ok(layout::PORT_FAULT) => Message::End(End::Exception),
        Ok(layout::PORT_DONE) => Message::End(End::Done),
        _ => Message::End(End::Unexpected(format!("write to port {port:#x}"))),
    }
}

fn internal_error(vcpu: &mut VcpuFd) -> End {
    // SAFETY: KVM fills this member of the union on the exit that was just returned; it is plain
    // data, so that any bit pattern is valid.
    let suberror = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal.suberror };
    if suberror == KVM_INTERNAL_ERROR_EMULATION {
        let rip = vcpu.get_regs().map(|regs| regs.rip).unwrap_or(u64::MAX);
        return End::Emulation {
            rip,
            bytes: Vec::new(),
        };
    }
    End::Internal { suberror }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let of = |port: u8, number| message(u16::from(port), number);
        assert!(matches!(
            of(layout::PORT_PASS, 6),
            Message::Event(Event::Passed(Stage::Syscall))
        ));
        assert!(matches!(of(layout::PORT_DONE, 0), Message::End(End::Done)));
        assert!(matches!(
            of(layout::PORT_PASS, 99),
            Message::End(End::Unexpected(_))
        ));
        assert!(matches!(
            message(0x1e1, 1),
            Message::End(End::Unexpected(_))
        ));
    }
}
