//! Building a machine out of its configuration.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kvm_ioctls::VmFd;

use super::Machine;
use super::slots::{SlotError, Slots, interrupt};
use super::vm::{self, VmError};
use crate::arch::x86_64::{acpi, boot, layout, regs};
use crate::bus::{Bus, BusError};
use crate::config::{ConfigError, MachineConfig};
use crate::devices::block::{Block, BlockError};
use crate::devices::legacy::i8042::{self, I8042};
use crate::devices::legacy::panic_port::PanicPort;
use crate::devices::legacy::power::{self, Power};
use crate::devices::legacy::serial::{self, SerialPort, SerialTail};
use crate::devices::net::{Net, NetError};
use crate::devices::rng::Rng;
use crate::devices::virtio::{GuestMemory, VirtioDevice};
use crate::devices::vmgenid::{VmGenId, VmGenIdError};
use crate::devices::vsock::{Vsock, VsockError};
use crate::event_loop::{EventLoop, LoopError};
use crate::exit::ExitCell;
use crate::kernel::{self, KernelError};
use crate::memory::{self, MemoryError};
use crate::seccomp::{self, SeccompError};
use crate::serial_log::SerialLog;
use crate::vcpu::{Buses, VcpuError, Vcpus};

/// How a machine is built, apart from what it is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Serial output also goes to the standard output of this process.
    pub serial_stdout: bool,
    /// The process keeps only the system calls that a running machine needs (see [`crate::seccomp`]).
    pub seccomp: bool,
}

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// KVM.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The boot parameters.
    #[error(transparent)]
    Boot(#[from] boot::BootError),
    /// The boot tables.
    #[error(transparent)]
    Tables(#[from] regs::RegsError),
    /// The ACPI tables.
    #[error(transparent)]
    Acpi(#[from] acpi::AcpiError),
    /// A place on a bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A place for a virtio device.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A disk.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The socket to the guest.
    #[error(transparent)]
    Vsock(#[from] VsockError),
    /// The network card.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The entropy source.
    #[error("the entropy device cannot be made: {0}")]
    Rng(io::Error),
    /// The generation id.
    #[error(transparent)]
    GenerationId(#[from] VmGenIdError),
    /// The serial log.
    #[error("the serial log {path} cannot be made: {error}")]
    Serial {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The event loop.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// The threads of virtual CPUs.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// The system call filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

/// Builds the machine of `config`; its end will be left in `exit`. The guest does not run yet.
///
/// # Errors
/// The first step that failed; everything done before it is undone.
pub fn build(
    config: &MachineConfig,
    options: Options,
    exit: &Arc<ExitCell>,
) -> Result<Machine, BuildError> {
    config.validate()?;
    let ranges = layout::memory_ranges(config.memory_bytes());
    let memory = Arc::new(memory::create(&ranges)?);
    let kvm = vm::open()?;
    let vm = vm::create(&kvm, &memory)?;

    let mut buses = Buses::default();
    let serial = add_legacy(config, options, exit, &vm, &mut buses.pio)?;
    let mut slots = Slots::default();
    add_virtio(config, &memory, &vm, &mut buses.mmio, &mut slots)?;
    let generation_id = VmGenId::new(Arc::clone(&memory), interrupt(&vm, layout::EVENT_GSI)?)?;

    let rsdp = acpi::write(&memory, config.vcpus, slots.places())?;
    let cmdline = kernel::command_line(&config.cmdline_extra);
    boot::write(&memory, &ranges, &cmdline, rsdp)?;
    regs::write_tables(&memory)?;
    let entry = kernel::load(&memory, &config.kernel)?;

    let buses = Arc::new(buses);
    let fds = vm::create_vcpus(&kvm, &vm, config.vcpus, entry)?;
    let devices = slots.devices().to_vec();
    let handles = devices
        .iter()
        .map(|(_, device)| Arc::clone(device))
        .collect();
    let event_loop = EventLoop::start(handles, Arc::clone(exit))?;
    let vcpus = Vcpus::start(fds, &buses, Arc::clone(exit))?;
    if options.seccomp {
        seccomp::install()?;
    }
    Ok(Machine {
        vcpus,
        _event_loop: event_loop,
        devices,
        serial,
        buses,
        generation_id,
        memory_mib: config.memory_mib,
        _vm: vm,
        _memory: memory,
    })
}

/// The serial port, the reset line, the power registers and the panic port.
fn add_legacy(
    config: &MachineConfig,
    options: Options,
    exit: &Arc<ExitCell>,
    vm: &VmFd,
    bus: &mut Bus,
) -> Result<Arc<Mutex<SerialPort>>, BuildError> {
    let log = match &config.serial {
        None => SerialLog::discard(),
        Some(serial) => {
            SerialLog::open(&serial.path, serial.max_bytes).map_err(|error| BuildError::Serial {
                path: serial.path.clone(),
                error,
            })?
        }
    };
    let log = if options.serial_stdout {
        log.with_stdout()
    } else {
        log
    };
    let tail = Arc::new(Mutex::new(SerialTail::default()));
    let line = interrupt(vm, layout::SERIAL_GSI)?;
    let port = Arc::new(Mutex::new(SerialPort::new(line, log, Arc::clone(&tail))));
    let at = u64::from;
    bus.insert(at(layout::COM1), serial::PORTS, Arc::clone(&port) as _)?;
    let i8042 = Arc::new(Mutex::new(I8042::new(Arc::clone(exit))));
    bus.insert(at(layout::I8042), i8042::PORTS, i8042)?;
    let power = Arc::new(Mutex::new(Power::new(Arc::clone(exit))));
    bus.insert(at(layout::POWER), power::PORTS, power)?;
    let panic_port = Arc::new(Mutex::new(PanicPort::new(Arc::clone(exit), tail)));
    bus.insert(at(layout::PVPANIC), 1, panic_port)?;
    Ok(port)
}

/// Disks in their order, then the socket, the network card and the entropy source.
fn add_virtio(
    config: &MachineConfig,
    memory: &Arc<GuestMemory>,
    vm: &VmFd,
    bus: &mut Bus,
    slots: &mut Slots,
) -> Result<(), BuildError> {
    for disk in &config.disks {
        let block = Block::open(disk, disk.overlay_max_bytes.unwrap_or(u64::MAX))?;
        slots.add(format!("disk-{}", disk.id), share(block), memory, vm, bus)?;
    }
    if let Some(vsock) = &config.vsock {
        slots.add("vsock".into(), share(Vsock::new(vsock)?), memory, vm, bus)?;
    }
    if let Some(net) = &config.net {
        slots.add("net".into(), share(Net::open(net)?), memory, vm, bus)?;
    }
    if config.rng {
        let rng = Rng::new().map_err(BuildError::Rng)?;
        slots.add("rng".into(), share(rng), memory, vm, bus)?;
    }
    Ok(())
}

fn share<D: VirtioDevice + 'static>(device: D) -> Arc<Mutex<dyn VirtioDevice>> {
    Arc::new(Mutex::new(device))
}
