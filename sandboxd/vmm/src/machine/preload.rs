//! Bringing a snapshot's memory in before it is asked for.
//!
//! ```text
//!   Prepared ──preload──► memory mapped ─► working set copied and mapped ──restore of that snapshot──► only the rest is left to do
//!                                                                        └─restore of another──► blank again, everything is done
//! ```
//!
//! It is the largest part of a restore and the same for all clones of a snapshot, so a process that waits for work can have it
//! behind it. What belongs to one clone alone (registers and clocks, which must not run while it waits, its disks and sockets,
//! its generation id) stays for the restore.

use super::builder::BuildError;
use super::prefetch;
use super::prepared::Prepared;
use super::restore::fits;
use crate::memory::place;
use crate::snapshot::stages::Stopwatch;
use crate::snapshot::{Kept, Opened, layers};

impl Prepared {
    /// Brings the memory of `kept` in, and keeps it open.
    ///
    /// # Errors
    /// When it does not fit, or the host fails; what was prepared can still be restored into.
    pub fn preload(&mut self, kept: Kept, watch: &mut Stopwatch) -> Result<(), BuildError> {
        fits(self, kept.opened())?;
        self.kept = None;
        self.hold(kept.opened(), false, watch)?;
        self.kept = Some(kept);
        Ok(())
    }

    /// The snapshot in `dir`, if it is the preloaded one and has not changed.
    pub fn take_kept(&mut self, dir: &std::path::Path) -> Option<Opened> {
        self.kept.take()?.take(dir)
    }

    /// Makes memory that of `opened`, with the working set brought in; nothing is to do when it is so already. With `record`
    /// no page of it is there afterwards.
    pub(super) fn hold(
        &mut self,
        opened: &Opened,
        record: bool,
        watch: &mut Stopwatch,
    ) -> Result<(), BuildError> {
        let id = &opened.manifest.id;
        if self.holds.as_ref() == Some(id) && !record {
            return Ok(());
        }
        // Whatever fails from here on, it is not known any more what memory holds.
        let fresh = std::mem::replace(&mut self.holds, Some(String::new())).is_none();
        if !fresh {
            place::blank(&self.memory).map_err(BuildError::Lay)?;
        }
        layers::lay(&self.memory, &opened.state.extents, &opened.memory)
            .map_err(BuildError::Lay)?;
        watch.lap("memory");
        if let (Some(set), false) = (&opened.working_set, record)
            && let Some(fd) = self.vcpus.still().first()
        {
            prefetch::bring_in(&self.memory, fd, set);
            watch.lap("prefetch");
        }
        self.holds = Some(id.clone());
        Ok(())
    }
}
