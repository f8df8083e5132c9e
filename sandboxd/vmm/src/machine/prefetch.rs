//! Bringing in the pages that a restored guest is known to touch first, in a few calls instead of one fault for each.
//!
//! ```text
//!   written runs ─► host: copied ahead (MADV_POPULATE_WRITE) ─┐
//!   read runs    ─► host: found (MADV_POPULATE_READ) ─────────┴─► KVM: mapped for the guest (KVM_PRE_FAULT_MEMORY, Linux 6.11)
//! ```
//!
//! Each step is advice: what a host cannot do, the guest does later by itself.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use kvm_ioctls::VcpuFd;

use crate::devices::virtio::GuestMemory;
use crate::memory::place;
use crate::snapshot::working_set::WorkingSet;

const KVM_PRE_FAULT_MEMORY: libc::c_ulong = 0xc040_aed5;
/// Longest gap between two runs that KVM maps along: cheaper than another call.
const GAP: u64 = 2 * crate::memory::PAGE;

/// `struct kvm_pre_fault_memory`.
#[repr(C)]
struct PreFault {
    gpa: u64,
    size: u64,
    flags: u64,
    padding: [u64; 5],
}

/// Brings `set` in for a guest whose first virtual CPU is `vcpu`, which stands still. Its registers may come later: the tables that
/// KVM makes for a guest's physical memory do not depend on them.
pub fn bring_in(memory: &GuestMemory, vcpu: &VcpuFd, set: &WorkingSet) {
    let mut joined: Option<(u64, u64)> = None;
    for (at, len, written) in set.runs() {
        let done = match written {
            true => place::own(memory, at, len),
            false => Ok(()),
        };
        if let Err(why) = done {
            return tracing::debug!(%why, "pages could not be brought in ahead");
        }
        joined = match joined {
            Some((start, end)) if at - end <= GAP => Some((start, at + len)),
            Some((start, end)) => {
                if map(memory, vcpu, start, end - start).is_err() {
                    return;
                }
                Some((at, at + len))
            }
            None => Some((at, at + len)),
        };
    }
    if let Some((start, end)) = joined {
        let _ = map(memory, vcpu, start, end - start);
    }
}

fn map(memory: &GuestMemory, vcpu: &VcpuFd, at: u64, len: u64) -> io::Result<()> {
    for (gpa, size) in place::addresses(memory, at, len)? {
        let mut range = PreFault {
            gpa,
            size,
            flags: 0,
            padding: [0; 5],
        };
        while range.size > 0 {
            // SAFETY: the call reads and writes one `kvm_pre_fault_memory`, which lives through it, and makes KVM map pages of
            // the memory that the VM was given.
            let done =
                unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_PRE_FAULT_MEMORY, &raw mut range) };
            if done < 0 {
                let why = io::Error::last_os_error();
                if why.kind() != io::ErrorKind::Interrupted {
                    tracing::debug!(%why, "KVM did not map pages ahead");
                    return Err(why);
                }
            }
        }
    }
    Ok(())
}
