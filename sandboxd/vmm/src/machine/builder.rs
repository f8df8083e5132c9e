//! Building a machine out of its configuration.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::Machine;
use super::devices::{DeviceError, Devices};
use super::prepared::Prepared;
use super::shape::Shape;
use super::slots::SlotError;
use super::vm::{self, VmError};
use crate::arch::x86_64::vcpu_state::VcpuStateError;
use crate::arch::x86_64::vm_state::VmStateError;
use crate::arch::x86_64::{acpi, boot, layout, regs};
use crate::bus::{Bus, BusError};
use crate::config::{ConfigError, MachineConfig, SerialConfig};
use crate::devices::legacy::i8042::{self, I8042};
use crate::devices::legacy::panic_port::PanicPort;
use crate::devices::legacy::power::{self, Power};
use crate::devices::legacy::serial::{self, SerialPort, SerialTail};
use crate::devices::virtio::mmio::{MmioTransport, TransportError};
use crate::devices::vmgenid::{VmGenId, VmGenIdError};
use crate::event_loop::LoopError;
use crate::exit::ExitCell;
use crate::kernel::{self, KernelError};
use crate::memory::MemoryError;
use crate::seccomp::SeccompError;
use crate::serial_log::SerialLog;
use crate::snapshot::SnapshotError;
use crate::vcpu::{Buses, VcpuError};

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
    /// A virtio device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The registers of a virtio device.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The state of a virtual CPU.
    #[error(transparent)]
    VcpuState(#[from] VcpuStateError),
    /// The state of interrupt controllers or the clock.
    #[error(transparent)]
    VmState(#[from] VmStateError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The snapshot's memory.
    #[error("the snapshot's memory could not be mapped: {0}")]
    Lay(io::Error),
    /// The process was prepared for another machine.
    #[error("the process was prepared for another machine: {prepared:?}, but {wanted:?} is wanted")]
    OtherShape {
        /// What it was prepared for.
        prepared: Box<Shape>,
        /// What is wanted.
        wanted: Box<Shape>,
    },
    /// A restored machine lacks something of its own.
    #[error("the machine has {0}, so a restore must say where this one's is")]
    MissingOverride(String),
    /// An override speaks of something that the machine does not have.
    #[error("the machine has no {0}, but the restore speaks of it")]
    UnusedOverride(String),
    /// Books of touched pages cannot be kept.
    #[error("the pages that the guest touches cannot be recorded: {0}")]
    Record(io::Error),
    /// The page map of this process.
    #[error("/proc/self/pagemap cannot be opened: {0}")]
    Pagemap(io::Error),
    /// The processor has more vector registers than a snapshot has room for.
    #[error("this host's virtual CPUs have more than 4096 bytes of vector registers")]
    Xsave,
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
    let mut prepared = Prepared::new(Shape::of(config), options, exit)?;
    let memory = Arc::clone(&prepared.memory);
    let places: Vec<_> = prepared.slots.iter().map(|slot| slot.place()).collect();
    let rsdp = acpi::write(&memory, config.vcpus, &places)?;
    let cmdline = kernel::command_line(&config.cmdline_extra);
    boot::write(&memory, &prepared.ranges, &cmdline, rsdp)?;
    regs::write_tables(&memory)?;
    let entry = kernel::load(&memory, &config.kernel)?;
    vm::boot_vcpus(prepared.vcpus.still().iter().map(|fd| &**fd), entry)?;
    let generation_id = VmGenId::new(Arc::clone(&memory), Arc::clone(&prepared.event_line))?;
    let devices = Devices::create(config, &memory)?;
    let board = Board::new(&prepared, config.serial.as_ref(), &devices)?;
    prepared.restrict()?;
    board.assemble(prepared, config.clone(), devices, generation_id, None)
}

/// Everything on the buses.
pub(super) struct Board {
    buses: Arc<Buses>,
    pub serial: Arc<Mutex<SerialPort>>,
    pub transports: Vec<Arc<Mutex<MmioTransport>>>,
}

impl Board {
    /// Puts the legacy devices and `devices` on the buses.
    pub fn new(
        prepared: &Prepared,
        serial: Option<&SerialConfig>,
        devices: &Devices,
    ) -> Result<Self, BuildError> {
        let mut buses = Buses::default();
        let serial = add_legacy(prepared, serial, &mut buses.pio)?;
        let mut transports = Vec::with_capacity(prepared.slots.len());
        for (slot, (_, device)) in prepared.slots.iter().zip(devices.all()) {
            transports.push(slot.fill(device, &prepared.memory, &mut buses.mmio)?);
        }
        Ok(Self {
            buses: Arc::new(buses),
            serial,
            transports,
        })
    }

    /// Joins board, devices and what was prepared. The guest does not run yet.
    pub fn assemble(
        self,
        prepared: Prepared,
        config: MachineConfig,
        devices: Devices,
        generation_id: VmGenId,
        base: Option<super::save::Base>,
    ) -> Result<Machine, BuildError> {
        let named = devices.all();
        let handles = named.iter().map(|(_, device)| Arc::clone(device)).collect();
        prepared.event_loop.add(handles)?;
        prepared.vcpus.connect(&self.buses);
        Ok(Machine {
            vcpus: prepared.vcpus,
            _event_loop: prepared.event_loop,
            devices,
            named,
            transports: self.transports,
            serial: self.serial,
            buses: self.buses,
            generation_id,
            config,
            base,
            recording: None,
            cpu: prepared.cpu,
            msr_indices: prepared.msr_indices,
            pagemap: prepared.pagemap,
            exit: prepared.exit,
            vm: prepared.vm,
            memory: prepared.memory,
        })
    }
}

/// The serial port, the reset line, the power registers and the panic port.
fn add_legacy(
    prepared: &Prepared,
    serial: Option<&SerialConfig>,
    bus: &mut Bus,
) -> Result<Arc<Mutex<SerialPort>>, BuildError> {
    let exit = || Arc::clone(&prepared.exit);
    let log = match serial {
        None => SerialLog::discard(),
        Some(serial) => SerialLog::open(&serial.path, serial.max_bytes)
            .map_err(|error| BuildError::serial(&serial.path, error))?,
    };
    let log = match prepared.options.serial_stdout {
        true => log.with_stdout(),
        false => log,
    };
    let tail = Arc::new(Mutex::new(SerialTail::default()));
    let line = Arc::clone(&prepared.serial_line);
    let port = Arc::new(Mutex::new(SerialPort::new(line, log, Arc::clone(&tail))));
    let at = u64::from;
    bus.insert(at(layout::COM1), serial::PORTS, Arc::clone(&port) as _)?;
    let i8042 = Arc::new(Mutex::new(I8042::new(exit())));
    bus.insert(at(layout::I8042), i8042::PORTS, i8042)?;
    let power = Arc::new(Mutex::new(Power::new(exit())));
    bus.insert(at(layout::POWER), power::PORTS, power)?;
    let panic_port = Arc::new(Mutex::new(PanicPort::new(exit(), tail)));
    bus.insert(at(layout::PVPANIC), 1, panic_port)?;
    Ok(port)
}
