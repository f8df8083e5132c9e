//! The eBPF programs and their maps: loaded once, attached to each TAP.
//!
//! ```text
//!   attach(TAP)      clsact qdisc, from_guest at ingress, to_guest at egress
//!   tables.set       the interface gets identity and policy, and begins to pass packets
//!   tables.clear     it passes nothing any more
//! ```
//!
//! Programs are attached by netlink, not as TCX links: a link goes with its descriptor, and a
//! daemon that dies must not leave running guests without their filter. They live until their TAP
//! is deleted or another daemon replaces them in place. It works the same before and after Linux
//! 6.6, where TCX came.

pub mod abi;
mod error;
mod exchange;
mod tables;
mod verdict;

#[cfg(test)]
pub(crate) mod packets;
#[cfg(test)]
pub(crate) mod tests;

use std::net::Ipv4Addr;

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcHandle,
    qdisc_add_clsact,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, TcError};
use ipnet::Ipv4Net;

pub use error::DatapathError;
pub use tables::Tables;
pub use verdict::{Counters, Verdict};

use abi::RawEvent;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netguard.o"));

/// Program at TAP ingress.
const FROM_GUEST: &str = "from_guest";
/// Program at TAP egress.
const TO_GUEST: &str = "to_guest";
/// Where both sit on their hook; fixed, so that a successor can replace them.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// A refusal, as written to the ring buffer for slots that ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// Interface it happened on.
    pub ifindex: u32,
    /// The other end.
    pub remote: Ipv4Addr,
    /// Its port, 0 where the protocol has none.
    pub remote_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// What became of the packet.
    pub verdict: Verdict,
}

/// Loaded programs and maps.
pub struct Datapath {
    ebpf: Ebpf,
    /// Who sits behind each interface.
    pub tables: Tables,
    events: RingBuf<MapData>,
}

impl Datapath {
    /// Loads programs and maps and writes the rules that hold for every sandbox.
    ///
    /// # Errors
    /// When the kernel refuses bpf(2), a program or a map.
    pub fn load(exempt: &[Ipv4Net]) -> Result<Self, DatapathError> {
        let mut ebpf = Ebpf::load(OBJECT).map_err(|error| DatapathError::Load(Box::new(error)))?;
        for name in [FROM_GUEST, TO_GUEST] {
            classifier(&mut ebpf, name)?.load()?;
        }
        let tables = Tables::take(&mut ebpf, exempt)?;
        let events = RingBuf::try_from(tables::take(&mut ebpf, "events")?)?;
        Ok(Self {
            ebpf,
            tables,
            events,
        })
    }

    /// Puts both programs on an interface, in place of those of a predecessor.
    ///
    /// # Errors
    /// When the qdisc or a program cannot be attached.
    pub fn attach(&mut self, interface: &str) -> Result<(), DatapathError> {
        match qdisc_add_clsact(interface) {
            Ok(()) => {}
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(ProgramError::from(error).into()),
        }
        for (name, hook) in [
            (TO_GUEST, TcAttachType::Egress),
            (FROM_GUEST, TcAttachType::Ingress),
        ] {
            let program = classifier(&mut self.ebpf, name)?;
            let id = match replace(program, interface, hook) {
                Err(error) if is_missing(&error) => add(program, interface, hook)?,
                other => other?,
            };
            // The attachment belongs to the interface and goes with it, not with this process.
            std::mem::forget(program.take_link(id)?);
        }
        Ok(())
    }

    /// Takes the oldest event out of the ring buffer.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let record = self.events.next()?;
            let Some(raw) = RawEvent::decode(&record) else {
                continue;
            };
            let Some(verdict) = Verdict::from_number(raw.verdict) else {
                continue;
            };
            let RawEvent {
                time_ns,
                ifindex,
                remote,
                remote_port,
                protocol,
                ..
            } = raw;
            return Some(Event {
                time_ns,
                ifindex,
                remote,
                remote_port,
                protocol,
                verdict,
            });
        }
    }
}

fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DatapathError> {
    let program = ebpf.program_mut(name).ok_or(DatapathError::Missing(name))?;
    Ok(program.try_into()?)
}

fn add(
    program: &mut SchedClassifier,
    interface: &str,
    hook: TcAttachType,
) -> Result<SchedClassifierLinkId, ProgramError> {
    let options = NlOptions {
        priority: PRIORITY,
        handle: HANDLE,
        classid: None,
    };
    program.attach_with_options(interface, hook, TcAttachOptions::Netlink(options))
}

fn replace(
    program: &mut SchedClassifier,
    interface: &str,
    hook: TcAttachType,
) -> Result<SchedClassifierLinkId, ProgramError> {
    let link = SchedClassifierLink::attached(interface, hook, PRIORITY, HANDLE, None)
        .map_err(TcError::IoError)?;
    program.attach_to_link(link)
}

/// Whether a replacement failed because there was nothing to replace.
fn is_missing(error: &ProgramError) -> bool {
    matches!(
        error,
        ProgramError::TcError(TcError::NetlinkError(error))
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL))
    )
}
