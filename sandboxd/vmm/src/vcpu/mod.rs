//! Virtual CPUs: one thread each, steered from outside.
//!
//! ```text
//!            order(Run)              exit of KVM_RUN ──► handle ──► KVM_RUN …
//!   parked ◄───────────► running ──┤
//!     │  order(Pause) + kick         EINTR (kicked) ──► look at the order
//!     └──────── order(Stop) + kick ──► ended
//! ```
//!
//! Ordering rules:
//! 1. The order is stored before the kick, and the kick sets `immediate_exit` before it sends the signal: wherever the
//!    thread is, it sees the order at the latest at its next entry into KVM.
//! 2. A thread parks only after KVM_RUN has returned EINTR: then a pending port or memory access is complete and the
//!    state of the CPU is whole (Linux, Documentation/virt/kvm/api.rst, KVM_RUN).
//! 3. Nothing a guest does here can end the process by a panic; what cannot be handled ends the machine with a reason.
//! 4. A thread holds the lock of its CPU while it runs and lets it go before it counts as still: whoever has paused the
//!    machine may take down or replace the state of each CPU (see [`Vcpus::still`]).
//! 5. The buses are connected once, before the first order to run; threads can be started long before there are any.

mod handle;
mod kick;
mod run;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuFd;

pub use self::handle::Buses;
use self::kick::Kicker;
use crate::control::VcpuExits;
use crate::exit::ExitCell;
use crate::seccomp::ThreadFilter;
use crate::sync::lock;

/// Stack of a virtual CPU's thread, in bytes.
const STACK: usize = 256 * 1024;
/// How long the threads are given to follow an order.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the threads are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    Pause,
    Stop,
}

/// Why an order was not followed.
#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    /// A thread could not be started.
    #[error("the thread of a virtual CPU could not be started: {0}")]
    Spawn(io::Error),
    /// The signal that interrupts KVM_RUN could not be set up.
    #[error("the signal that interrupts virtual CPUs could not be set up: {0}")]
    Signal(io::Error),
    /// A thread could not be restricted.
    #[error("the kernel refused the system call filter of a virtual CPU")]
    Filter,
    /// Threads did not stop in time.
    #[error("{running} of {all} virtual CPUs did not stop within five seconds")]
    Stuck {
        /// Still running.
        running: usize,
        /// All.
        all: usize,
    },
}

/// State that all threads and their steerer share.
struct Shared {
    gate: Mutex<Gate>,
    changed: Condvar,
    buses: OnceLock<Arc<Buses>>,
    exits: Counters,
    exit: Arc<ExitCell>,
}

/// Where orders and their following meet.
struct Gate {
    order: Order,
    /// Threads that have come up.
    ready: usize,
    /// Threads among them that could not take the filter.
    unfiltered: usize,
    /// Threads in KVM or handling an exit, as opposed to parked or ended.
    running: usize,
}

/// Exits by kind.
#[derive(Default)]
struct Counters {
    pio_read: AtomicU64,
    pio_write: AtomicU64,
    mmio_read: AtomicU64,
    mmio_write: AtomicU64,
    interrupted: AtomicU64,
}

/// All virtual CPUs of a machine.
pub struct Vcpus {
    shared: Arc<Shared>,
    kickers: Vec<Arc<Kicker>>,
    fds: Vec<Arc<Mutex<VcpuFd>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Vcpus {
    /// Starts one parked thread per CPU, behind `filter` if there is one, and waits until each is there. The machine's end is
    /// left in `exit`.
    ///
    /// # Errors
    /// When a thread, the signal or the filter cannot be had; threads already started are ended.
    pub fn start(
        fds: Vec<VcpuFd>,
        exit: Arc<ExitCell>,
        filter: Option<&ThreadFilter>,
    ) -> Result<Self, VcpuError> {
        kick::install().map_err(VcpuError::Signal)?;
        let shared = Arc::new(Shared {
            gate: Mutex::new(Gate {
                order: Order::Pause,
                ready: 0,
                unfiltered: 0,
                running: 0,
            }),
            changed: Condvar::new(),
            buses: OnceLock::new(),
            exits: Counters::default(),
            exit,
        });
        let mut vcpus = Self {
            shared,
            kickers: Vec::new(),
            fds: fds.into_iter().map(|fd| Arc::new(Mutex::new(fd))).collect(),
            threads: Vec::new(),
        };
        for (index, fd) in vcpus.fds.iter().enumerate() {
            let kicker = Arc::new(Kicker::default());
            let body = run::Body {
                fd: Arc::clone(fd),
                filter: filter.cloned(),
                shared: Arc::clone(&vcpus.shared),
                kicker: Arc::clone(&kicker),
            };
            let thread = std::thread::Builder::new()
                .name(format!("vcpu{index}"))
                .stack_size(STACK)
                .spawn(move || body.run())
                .map_err(VcpuError::Spawn)?;
            vcpus.kickers.push(kicker);
            vcpus.threads.push(thread);
        }
        vcpus.wait_until_ready()?;
        Ok(vcpus)
    }

    /// Says where accesses of the guest go; the first word stands.
    pub fn connect(&self, buses: &Arc<Buses>) {
        let _ = self.shared.buses.set(Arc::clone(buses));
    }

    /// All virtual CPUs of a machine that stands still: they cannot run while the guards live.
    pub fn still(&self) -> Vec<MutexGuard<'_, VcpuFd>> {
        self.fds.iter().map(|fd| lock(fd)).collect()
    }

    /// Waits until every thread is behind what its start does, which a system call filter would not allow.
    fn wait_until_ready(&self) -> Result<(), VcpuError> {
        let mut gate = lock(&self.shared.gate);
        while gate.ready < self.threads.len() {
            gate = self
                .shared
                .changed
                .wait(gate)
                .unwrap_or_else(PoisonError::into_inner);
        }
        match gate.unfiltered {
            0 => Ok(()),
            _ => Err(VcpuError::Filter),
        }
    }

    /// Lets all CPUs run.
    pub fn resume(&self) {
        self.give(Order::Run);
    }

    /// Stops all CPUs and waits until each stands still.
    ///
    /// # Errors
    /// When one does not within five seconds; the order stands.
    pub fn pause(&self) -> Result<(), VcpuError> {
        self.give(Order::Pause);
        self.wait_until_still()
    }

    /// Exits so far, over all CPUs.
    pub fn exits(&self) -> VcpuExits {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let exits = &self.shared.exits;
        VcpuExits {
            pio_read: read(&exits.pio_read),
            pio_write: read(&exits.pio_write),
            mmio_read: read(&exits.mmio_read),
            mmio_write: read(&exits.mmio_write),
            interrupted: read(&exits.interrupted),
        }
    }

    fn give(&self, order: Order) {
        lock(&self.shared.gate).order = order;
        self.shared.changed.notify_all();
        for kicker in &self.kickers {
            kicker.kick();
        }
    }

    fn wait_until_still(&self) -> Result<(), VcpuError> {
        let deadline = Instant::now() + PATIENCE;
        let mut gate = lock(&self.shared.gate);
        while gate.running > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(VcpuError::Stuck {
                    running: gate.running,
                    all: self.threads.len(),
                });
            }
            let waited = self.shared.changed.wait_timeout(gate, left);
            gate = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Drop for Vcpus {
    /// Ends all threads. One that does not follow is left behind: the process is about to end.
    fn drop(&mut self) {
        self.give(Order::Stop);
        if self.wait_until_still().is_ok() {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests;
