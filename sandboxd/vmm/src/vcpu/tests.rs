//! Tests of the run loop with guests of a few bytes in real mode. They need a KVM that runs such guests; where there is
//! none, each says so and passes.

#![allow(unsafe_code)]

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::*;
use crate::bus::BusDevice;
use crate::control::ExitReason;

const CODE: u64 = 0x1000;
const MEMORY: usize = 0x4000;

struct Rig {
    vcpus: Vcpus,
    exit: Arc<ExitCell>,
    seen: Arc<Mutex<Recorder>>,
    _vm: VmFd,
    _memory: GuestMemoryMmap,
}

/// Remembers the last byte written and how often.
#[derive(Default)]
struct Recorder {
    byte: Option<u8>,
    writes: u64,
}

impl BusDevice for Recorder {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0x5a);
    }
    fn write(&mut self, _offset: u64, data: &[u8]) {
        self.byte = data.first().copied();
        self.writes += 1;
    }
}

/// A guest that runs `code` on `cpus` processors, or why there is none.
fn try_rig(code: &[u8], cpus: u64) -> Result<Rig, kvm_ioctls::Error> {
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    memory.write_slice(code, GuestAddress(CODE)).unwrap();
    let host = memory.get_host_address(GuestAddress(0)).unwrap();
    let region = kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY as u64,
        userspace_addr: host.expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: the rig keeps the memory longer than the VM.
    unsafe { vm.set_user_memory_region(region)? };
    let mut fds = Vec::new();
    for cpu in 0..cpus {
        let fd = vm.create_vcpu(cpu)?;
        let mut sregs = fd.get_sregs()?;
        (sregs.cs.base, sregs.cs.selector) = (0, 0);
        fd.set_sregs(&sregs)?;
        let mut regs = fd.get_regs()?;
        (regs.rip, regs.rflags) = (CODE, 2);
        fd.set_regs(&regs)?;
        fds.push(fd);
    }
    let seen = Arc::new(Mutex::new(Recorder::default()));
    let mut buses = Buses::default();
    buses.pio.insert(0x10, 1, seen.clone()).unwrap();
    buses.mmio.insert(0x8000, 1, seen.clone()).unwrap();
    let exit = Arc::new(ExitCell::new().unwrap());
    let vcpus = Vcpus::start(fds, Arc::clone(&exit), None).unwrap();
    vcpus.connect(&Arc::new(buses));
    Ok(Rig {
        vcpus,
        exit,
        seen,
        _vm: vm,
        _memory: memory,
    })
}

fn rig(code: &[u8], cpus: u64) -> Option<Rig> {
    match try_rig(code, cpus) {
        Ok(rig) => Some(rig),
        Err(error) => {
            println!("not run: this host's /dev/kvm does not run a real-mode guest: {error}");
            None
        }
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// mov dx, 0x10; mov al, 'x'; out dx, al; hlt
const OUT_AND_HALT: [u8; 7] = [0xba, 0x10, 0x00, 0xb0, 0x78, 0xee, 0xf4];
/// jmp to itself
const SPIN: [u8; 2] = [0xeb, 0xfe];
/// mov ax, 0x800; mov ds, ax; again: mov [0], al; jmp again
const SPIN_ON_MMIO: [u8; 10] = [0xb8, 0x00, 0x08, 0x8e, 0xd8, 0xa2, 0x00, 0x00, 0xeb, 0xfb];

#[test]
fn nothing_runs_before_it_is_told_to() {
    let Some(rig) = rig(&OUT_AND_HALT, 1) else {
        return;
    };
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(lock(&rig.seen).byte, None);
    rig.vcpus.resume();
    wait_until("the write", || lock(&rig.seen).byte == Some(b'x'));
}

#[test]
fn a_guest_that_halts_without_interrupts_ends_the_machine() {
    let Some(rig) = rig(&OUT_AND_HALT, 1) else {
        return;
    };
    rig.vcpus.resume();
    wait_until("the end", || rig.exit.get().is_some());
    assert_eq!(rig.exit.get().unwrap().reason, ExitReason::GuestReset);
    assert_eq!(rig.vcpus.exits().pio_write, 1);
    rig.vcpus.pause().unwrap();
}

#[test]
fn a_spinning_guest_is_paused_and_goes_on() {
    let Some(rig) = rig(&SPIN, 2) else { return };
    for round in 0..20 {
        rig.vcpus.resume();
        std::thread::sleep(Duration::from_millis(round % 3));
        rig.vcpus.pause().unwrap();
    }
    assert!(rig.exit.get().is_none(), "{:?}", rig.exit.get());
}

#[test]
fn a_guest_spinning_on_registers_is_paused_and_goes_on() {
    let Some(rig) = rig(&SPIN_ON_MMIO, 1) else {
        return;
    };
    rig.vcpus.resume();
    wait_until("a write", || lock(&rig.seen).writes > 10);
    rig.vcpus.pause().unwrap();
    let paused_at = lock(&rig.seen).writes;
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(lock(&rig.seen).writes, paused_at);
    rig.vcpus.resume();
    wait_until("more writes", || lock(&rig.seen).writes > paused_at);
}

#[test]
fn stopping_ends_the_threads_in_any_state() {
    for (resumed, paused) in [(false, false), (true, false), (true, true)] {
        let Some(rig) = rig(&SPIN, 2) else { return };
        if resumed {
            rig.vcpus.resume();
        }
        if paused {
            rig.vcpus.pause().unwrap();
        }
        let shared = Arc::clone(&rig.vcpus.shared);
        drop(rig);
        assert_eq!(Arc::strong_count(&shared), 1, "no thread is left");
    }
}
