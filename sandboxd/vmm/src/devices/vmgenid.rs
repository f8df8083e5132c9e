//! The VM generation id: 16 random bytes in guest memory that change whenever the guest continues as a copy of itself
//! (Microsoft, "Virtual Machine Generation ID"; Linux, drivers/virt/vmgenid.c).
//!
//! ```text
//!   new ──► random id in the page ──► … restore: regenerate ──► new id, then the event interrupt ──► guest reseeds
//! ```
//!
//! Ordering rule: after a restore, [`VmGenId::regenerate`] comes before any virtual CPU runs, so that the guest cannot draw
//! random numbers under the old id.

use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use crate::arch::x86_64::layout;
use crate::devices::virtio::GuestMemory;

/// Bytes of an id.
pub const ID_LEN: usize = 16;

/// Why an id could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum VmGenIdError {
    /// The host gave no random bytes.
    #[error("the host has no random bytes for the generation id: {0}")]
    Random(#[from] getrandom::Error),
    /// Guest memory does not reach as far as the page.
    #[error("the generation id does not fit into guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// The device.
pub struct VmGenId {
    memory: Arc<GuestMemory>,
    event: Arc<EventFd>,
}

impl VmGenId {
    /// Puts a first id into guest memory; `event` raises the generic event device's interrupt.
    ///
    /// # Errors
    /// See [`VmGenIdError`].
    pub fn new(memory: Arc<GuestMemory>, event: Arc<EventFd>) -> Result<Self, VmGenIdError> {
        let device = Self { memory, event };
        device.write_random()?;
        Ok(device)
    }

    /// The device of a restored guest, whose memory holds the id that it knows; [`VmGenId::regenerate`] is still to come.
    pub fn restored(memory: Arc<GuestMemory>, event: Arc<EventFd>) -> Self {
        Self { memory, event }
    }

    /// Puts another id in place and tells the guest.
    ///
    /// # Errors
    /// See [`VmGenIdError`]; the guest is not told then.
    pub fn regenerate(&self) -> Result<(), VmGenIdError> {
        self.write_random()?;
        // A full counter means that the interrupt is already on its way.
        let _ = self.event.write(1);
        Ok(())
    }

    fn write_random(&self) -> Result<(), VmGenIdError> {
        let mut id = [0u8; ID_LEN];
        getrandom::fill(&mut id)?;
        self.memory
            .write_slice(&id, GuestAddress(layout::VMGENID))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryMmap;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    #[test]
    fn each_generation_has_its_own_id() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let memory = Arc::new(memory);
        let event = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let device = VmGenId::new(Arc::clone(&memory), Arc::clone(&event)).unwrap();
        let id = || {
            memory
                .read_obj::<u128>(GuestAddress(layout::VMGENID))
                .unwrap()
        };
        let first = id();
        assert_ne!(first, 0);
        assert!(
            event.read().is_err(),
            "a fresh guest has nothing to be told"
        );
        device.regenerate().unwrap();
        assert_ne!(id(), first);
        assert_eq!(event.read().unwrap(), 1);
    }
}
