//! A machine without contents: everything that takes time and needs no snapshot, done ahead.
//!
//! ```text
//!   shape ─► guest memory reserved ─► VM, memory slots, interrupt controllers ─► virtual CPUs with their CPUID
//!         ─► interrupts and queue notifications wired ─► threads started, parked, behind their filter
//! ```
//!
//! A process that waits like this has nothing of a guest: no file but `/dev/kvm` is open, and no page of guest memory exists,
//! unless a snapshot was staged.

use std::io;
use std::sync::Arc;

use kvm_bindings::KVM_CAP_XSAVE2;
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use super::Options;
use super::builder::BuildError;
use super::shape::Shape;
use super::slots::{Slot, interrupt};
use super::vm;
use crate::arch::x86_64::cpuid::CpuIdentity;
use crate::arch::x86_64::layout::{self, Range};
use crate::devices::virtio::GuestMemory;
use crate::event_loop::EventLoop;
use crate::exit::ExitCell;
use crate::memory;
use crate::memory::pagemap::Pagemap;
use crate::seccomp::{Filters, SeccompError};
use crate::vcpu::Vcpus;

/// Bytes of vector registers that a snapshot has room for.
const XSAVE: i32 = 4096;

/// A machine that waits for its contents. Fields are dropped in their order: threads first, memory last.
pub struct Prepared {
    pub(super) vcpus: Vcpus,
    pub(super) event_loop: EventLoop,
    pub(super) slots: Vec<Slot>,
    pub(super) serial_line: Arc<EventFd>,
    pub(super) event_line: Arc<EventFd>,
    pub(super) shape: Shape,
    pub(super) ranges: Vec<Range>,
    pub(super) cpu: CpuIdentity,
    pub(super) msr_indices: Vec<u32>,
    /// The main thread's filter, until it is in place.
    pub(super) filters: Option<Filters>,
    pub(super) options: Options,
    pub(super) exit: Arc<ExitCell>,
    pub(super) pagemap: Pagemap,
    pub(super) vm: VmFd,
    pub(super) memory: Arc<GuestMemory>,
}

impl Prepared {
    /// Does all that `shape` is enough for; the machine's end will be left in `exit`.
    ///
    /// # Errors
    /// The first step that failed; everything done before it is undone.
    pub fn new(shape: Shape, options: Options, exit: &Arc<ExitCell>) -> Result<Self, BuildError> {
        shape.validate()?;
        let filters = options.seccomp.then(Filters::compile).transpose()?;
        let thread_filter = filters.as_ref().map(Filters::thread);
        let pagemap = Pagemap::open().map_err(BuildError::Pagemap)?;
        let ranges = layout::memory_ranges(shape.memory_bytes());
        let memory = Arc::new(memory::create(&ranges)?);
        let kvm = vm::open()?;
        if kvm.check_extension_raw(KVM_CAP_XSAVE2.into()) > XSAVE {
            return Err(BuildError::Xsave);
        }
        let vm = vm::create(&kvm, &memory)?;
        let (fds, cpu) = vm::create_vcpus(&kvm, &vm, shape.vcpus)?;
        let msr_indices = vm::saved_msrs(&kvm)?;
        let slots = Slot::wire(&shape.devices(), &vm)?;
        let serial_line = interrupt(&vm, layout::SERIAL_GSI)?;
        let event_line = interrupt(&vm, layout::EVENT_GSI)?;
        let event_loop = EventLoop::start(Arc::clone(exit), thread_filter)?;
        let vcpus = Vcpus::start(fds, Arc::clone(exit), thread_filter)?;
        Ok(Self {
            vcpus,
            event_loop,
            slots,
            serial_line,
            event_line,
            shape,
            ranges,
            cpu,
            msr_indices,
            filters,
            options,
            exit: Arc::clone(exit),
            pagemap,
            vm,
            memory,
        })
    }

    /// Takes from this thread the system calls that filling and running the machine do not need. Nothing can be prepared
    /// again after that.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn restrict(&mut self) -> Result<(), SeccompError> {
        match self.filters.take() {
            Some(filters) => filters.enter_main(),
            None => Ok(()),
        }
    }

    /// Whether a machine can still be prepared in this process if this one fails.
    pub fn is_restricted(&self) -> bool {
        self.options.seccomp && self.filters.is_none()
    }

    /// What it was made for.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
}

impl BuildError {
    /// A host failure under a name.
    pub(super) fn serial(path: &std::path::Path, error: io::Error) -> Self {
        Self::Serial {
            path: path.to_owned(),
            error,
        }
    }
}
