//! The life of one virtual CPU's thread.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_ioctls::VcpuFd;

use super::handle::{Buses, Outcome, handle};
use super::kick::Kicker;
use super::{Order, Shared};
use crate::control::ExitReason;
use crate::seccomp::ThreadFilter;
use crate::sync::lock;

/// What a thread owns.
pub(super) struct Body {
    pub fd: Arc<Mutex<VcpuFd>>,
    pub filter: Option<ThreadFilter>,
    pub shared: Arc<Shared>,
    pub kicker: Arc<Kicker>,
}

impl Body {
    /// Runs until the order says stop. After the machine's end the thread stays, so that kicks have a target.
    pub fn run(self) {
        let kicked = self.kicker.attach(&mut lock(&self.fd));
        let filtered = self.filter.as_ref().is_none_or(ThreadFilter::enter);
        {
            let mut gate = lock(&self.shared.gate);
            gate.ready += 1;
            gate.unfiltered += usize::from(!filtered);
        }
        self.shared.changed.notify_all();
        loop {
            kicked.clear();
            let Some(running) = Running::begin(&self.shared) else {
                return;
            };
            let end = {
                let mut fd = lock(&self.fd);
                let nowhere = Buses::default();
                let buses = self.shared.buses.get().map_or(&nowhere, |buses| buses);
                let end = run_until_kicked(&mut fd, buses, &self.shared);
                // The guest is told that it was stopped on purpose, or its watchdogs would bark. Without kvm-clock this
                // is refused, and nothing is lost.
                let _ = fd.kvmclock_ctrl();
                end
            };
            if let Some((reason, words)) = end {
                self.shared.exit.set(reason, &words);
                drop(running);
                return wait_for_stop(&self.shared);
            }
        }
    }
}

/// Enters the guest until a kick (None) or the machine's end.
fn run_until_kicked(
    fd: &mut VcpuFd,
    buses: &Buses,
    shared: &Shared,
) -> Option<(ExitReason, String)> {
    loop {
        match fd.run() {
            Ok(exit) => {
                if let Outcome::End(reason, words) = handle(exit, buses, &shared.exits) {
                    return Some((reason, words));
                }
            }
            Err(error) if error.errno() == libc::EINTR => {
                shared.exits.interrupted.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            // A processor that was waiting for its start-up interrupt returns so when it has come.
            Err(error) if error.errno() == libc::EAGAIN => {}
            Err(error) => return Some((ExitReason::Error, format!("KVM_RUN failed: {error}"))),
        }
    }
}

/// A thread counted as running, for as long as this lives.
struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    /// Waits while the order is to pause. None when it is to stop.
    fn begin(shared: &'a Shared) -> Option<Self> {
        let mut gate = lock(&shared.gate);
        while gate.order == Order::Pause {
            gate = shared
                .changed
                .wait(gate)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if gate.order == Order::Stop {
            return None;
        }
        gate.running += 1;
        Some(Self(shared))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .exit
                .set(ExitReason::Error, "the thread of a virtual CPU failed");
        }
        lock(&self.0.gate).running -= 1;
        self.0.changed.notify_all();
    }
}

fn wait_for_stop(shared: &Shared) {
    let mut gate = lock(&shared.gate);
    while gate.order != Order::Stop {
        gate = shared
            .changed
            .wait(gate)
            .unwrap_or_else(PoisonError::into_inner);
    }
}
