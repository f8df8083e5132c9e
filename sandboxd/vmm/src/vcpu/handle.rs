//! What one exit of KVM_RUN means.

use std::sync::atomic::Ordering;

use kvm_bindings::{KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::VcpuExit;

use super::Counters;
use crate::bus::Bus;
use crate::control::ExitReason;

/// The address buses that exits are answered from.
#[derive(Default)]
pub struct Buses {
    /// I/O ports.
    pub pio: Bus,
    /// Guest-physical addresses outside memory.
    pub mmio: Bus,
}

/// What follows from an exit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Enter the guest again.
    Continue,
    /// End the machine.
    End(ExitReason, String),
}

/// Carries out what the guest asked for.
pub(super) fn handle(exit: VcpuExit<'_>, buses: &Buses, counters: &Counters) -> Outcome {
    let error = |words: String| Outcome::End(ExitReason::Error, words);
    let reset = |words: &str| Outcome::End(ExitReason::GuestReset, words.to_owned());
    match exit {
        VcpuExit::IoIn(port, data) => {
            counters.pio_read.fetch_add(1, Ordering::Relaxed);
            buses.pio.read(u64::from(port), data);
            Outcome::Continue
        }
        VcpuExit::IoOut(port, data) => {
            counters.pio_write.fetch_add(1, Ordering::Relaxed);
            buses.pio.write(u64::from(port), data);
            Outcome::Continue
        }
        VcpuExit::MmioRead(address, data) => {
            counters.mmio_read.fetch_add(1, Ordering::Relaxed);
            buses.mmio.read(address, data);
            Outcome::Continue
        }
        VcpuExit::MmioWrite(address, data) => {
            counters.mmio_write.fetch_add(1, Ordering::Relaxed);
            buses.mmio.write(address, data);
            Outcome::Continue
        }
        VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::SetTpr | VcpuExit::Nmi => {
            Outcome::Continue
        }
        VcpuExit::Shutdown => reset("the guest ended in a triple fault, as a reboot does"),
        VcpuExit::Hlt => reset("the guest halted for good"),
        VcpuExit::SystemEvent(kind, _) => match kind {
            KVM_SYSTEM_EVENT_RESET => reset("the guest asked KVM for a reset"),
            KVM_SYSTEM_EVENT_SHUTDOWN => reset("the guest asked KVM for a shutdown"),
            KVM_SYSTEM_EVENT_CRASH => Outcome::End(
                ExitReason::GuestPanic,
                "the guest reported a crash to KVM".into(),
            ),
            other => error(format!("KVM reported the unknown system event {other}")),
        },
        VcpuExit::FailEntry(reason, cpu) => error(format!(
            "the processor refused to enter the guest: reason {reason:#x} on CPU {cpu}"
        )),
        VcpuExit::InternalError => {
            error("KVM could not emulate an instruction of the guest".into())
        }
        VcpuExit::Unsupported(reason) => {
            error(format!("KVM exited for the unknown reason {reason}"))
        }
        other => error(format!(
            "KVM exited in a way that this VMM does not handle: {other:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unclaimed_accesses_go_on() {
        let (buses, counters) = (Buses::default(), Counters::default());
        let mut data = [0; 4];
        let read = handle(
            VcpuExit::MmioRead(0xdead_0000, &mut data),
            &buses,
            &counters,
        );
        assert_eq!((read, data), (Outcome::Continue, [0xff; 4]));
        assert_eq!(
            handle(VcpuExit::IoOut(0x80, &[1]), &buses, &counters),
            Outcome::Continue
        );
        assert_eq!(counters.mmio_read.load(Ordering::Relaxed), 1);
        assert_eq!(counters.pio_write.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn endings_have_reasons() {
        let reason = |exit| match handle(exit, &Buses::default(), &Counters::default()) {
            Outcome::End(reason, words) => (reason, words),
            Outcome::Continue => panic!("goes on"),
        };
        assert_eq!(reason(VcpuExit::Shutdown).0, ExitReason::GuestReset);
        assert_eq!(
            reason(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, &[])).0,
            ExitReason::GuestPanic
        );
        assert_eq!(reason(VcpuExit::InternalError).0, ExitReason::Error);
        let (kind, words) = reason(VcpuExit::Unsupported(99));
        assert_eq!(kind, ExitReason::Error);
        assert!(words.contains("99"));
        assert_eq!(reason(VcpuExit::Watchdog).0, ExitReason::Error);
    }
}
