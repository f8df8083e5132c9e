//! Admission: how many sandboxes, and how much memory, may be promised at the same time.
//!
//! ```text
//!   reserve(memory) ──► [Reservation] ──drop──► given back
//!       │ over a limit, and a sandbox is ending: wait for it, briefly
//!       └ over a limit otherwise: refused at once
//! ```
//!
//! Where more memory may be promised than the host has, what guests really use decides as well: nothing is admitted that
//! would leave the host with less than a [`Floor`].
//!
//! A reservation counts a guest's whole memory from before its process starts until the process is known to be dead,
//! so that what is promised never exceeds what the host has, whatever the guests do with it. The count of ending
//! sandboxes exists for clients that kill one sandbox and create the next in the same breath.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Longest wait for an ending sandbox to give back what it holds.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What may be promised together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sandboxes.
    pub sandboxes: usize,
    /// Memory in MiB, of guests and their processes.
    pub memory_mib: u64,
}

/// Why a sandbox is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The limit of sandboxes at the same time is reached.
    #[error("The limit of {0} sandboxes at the same time is reached.")]
    Sandboxes(usize),
    /// The memory set aside for sandboxes is taken.
    #[error(
        "A sandbox of this size needs {wanted_mib} MiB of memory, and {free_mib} of {limit_mib} MiB are free."
    )]
    Memory {
        /// Needed.
        wanted_mib: u64,
        /// Not promised yet.
        free_mib: u64,
        /// Limit.
        limit_mib: u64,
    },
    /// More is promised than the host has, and little is left of what it has.
    #[error("The host has {available_mib} MiB of memory left, and keeps {floor_mib} of them free.")]
    Host {
        /// Left.
        available_mib: u64,
        /// Kept free.
        floor_mib: u64,
    },
}

/// What the host keeps free when more is promised than it has.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Memory in MiB that stays free.
    pub keep_mib: u64,
    /// Memory in MiB that the host could give now; `None` when it does not tell.
    pub available_mib: fn() -> Option<u64>,
}

impl Floor {
    fn check(self, available_mib: Option<u64>) -> Result<(), Full> {
        match available_mib {
            Some(available_mib) if available_mib < self.keep_mib => Err(Full::Host {
                available_mib,
                floor_mib: self.keep_mib,
            }),
            _ => Ok(()),
        }
    }
}

/// What is promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Sandboxes.
    pub sandboxes: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Of those sandboxes, how many are ending.
    pub ending: usize,
}

impl Used {
    /// Adds one sandbox if it fits.
    fn add(&mut self, memory_mib: u64, limits: Limits) -> Result<(), Full> {
        if self.sandboxes >= limits.sandboxes {
            return Err(Full::Sandboxes(limits.sandboxes));
        }
        let free_mib = limits.memory_mib.saturating_sub(self.memory_mib);
        if memory_mib > free_mib {
            return Err(Full::Memory {
                wanted_mib: memory_mib,
                free_mib,
                limit_mib: limits.memory_mib,
            });
        }
        self.sandboxes += 1;
        self.memory_mib += memory_mib;
        Ok(())
    }
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    floor: Option<Floor>,
    used: Mutex<Used>,
    given_back: Notify,
}

/// Keeps the books.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Shared>);

/// One sandbox's share, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    memory_mib: u64,
    ending: bool,
}

impl Admission {
    /// Empty books; on a host that promises more than it has, with a floor.
    pub fn new(limits: Limits, floor: Option<Floor>) -> Self {
        Self(Arc::new(Shared {
            limits,
            floor,
            used: Mutex::default(),
            given_back: Notify::new(),
        }))
    }

    /// Reserves a share; waits a little when a sandbox that is ending may make room.
    pub async fn reserve(&self, memory_mib: u64) -> Result<Reservation, Full> {
        let deadline = tokio::time::Instant::now() + LONGEST_WAIT;
        loop {
            let given_back = self.0.given_back.notified();
            tokio::pin!(given_back);
            // Listening begins before the books are read, so that nothing given back in between is missed.
            given_back.as_mut().enable();
            match self.try_reserve(memory_mib) {
                Ok(reservation) => return Ok(reservation),
                Err(full) if self.used().ending == 0 => return Err(full),
                Err(full) => tokio::time::timeout_at(deadline, given_back)
                    .await
                    .map_err(|_| full)?,
            }
        }
    }

    /// Reserves a share for a sandbox that runs already, whatever the limits say.
    pub fn adopt(&self, memory_mib: u64) -> Reservation {
        let mut used = self.0.lock();
        used.sandboxes += 1;
        used.memory_mib += memory_mib;
        self.reservation(memory_mib)
    }

    /// What is promised now.
    pub fn used(&self) -> Used {
        *self.0.lock()
    }

    /// What may be promised.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    fn try_reserve(&self, memory_mib: u64) -> Result<Reservation, Full> {
        if let Some(floor) = self.0.floor {
            floor.check((floor.available_mib)())?;
        }
        self.0.lock().add(memory_mib, self.0.limits)?;
        Ok(self.reservation(memory_mib))
    }

    fn reservation(&self, memory_mib: u64) -> Reservation {
        Reservation {
            shared: self.0.clone(),
            memory_mib,
            ending: false,
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Says that the share will be given back shortly.
    pub fn ending(&mut self) {
        if !self.ending {
            self.ending = true;
            self.shared.lock().ending += 1;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut used = self.shared.lock();
        used.sandboxes -= 1;
        used.memory_mib -= self.memory_mib;
        used.ending -= usize::from(self.ending);
        drop(used);
        self.shared.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Admission, Floor, Full, Limits, Used};

    const LIMITS: Limits = Limits {
        sandboxes: 2,
        memory_mib: 1_000,
    };

    #[tokio::test]
    async fn limits_hold_and_shares_come_back() {
        let admission = Admission::new(LIMITS, None);
        let first = admission.reserve(600).await.unwrap();
        let full = Full::Memory {
            wanted_mib: 600,
            free_mib: 400,
            limit_mib: 1_000,
        };
        assert_eq!(admission.reserve(600).await.unwrap_err(), full);
        let second = admission.reserve(400).await.unwrap();
        assert_eq!(admission.reserve(0).await.unwrap_err(), Full::Sandboxes(2));
        drop((first, second));
        assert_eq!(admission.used(), Used::default());
    }

    #[tokio::test]
    async fn the_host_keeps_its_floor() {
        let floor = |available_mib| Floor {
            keep_mib: 500,
            available_mib,
        };
        let low = Admission::new(LIMITS, Some(floor(|| Some(499))));
        let full = Full::Host {
            available_mib: 499,
            floor_mib: 500,
        };
        assert_eq!(low.reserve(1).await.unwrap_err(), full);
        for enough in [floor(|| Some(500)), floor(|| None)] {
            let admission = Admission::new(LIMITS, Some(enough));
            assert!(admission.reserve(1).await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_ending_sandbox_is_waited_for_but_not_forever() {
        let admission = Admission::new(LIMITS, None);
        let mut held = admission.reserve(1_000).await.unwrap();
        held.ending();
        held.ending();
        assert!(admission.reserve(100).await.is_err());
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.reserve(100).await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert_eq!(admission.used(), Used::default());
    }

    proptest! {
        #[test]
        fn never_more_than_the_limits(shares in proptest::collection::vec((0u64..600, any::<bool>()), 0..50)) {
            let admission = Admission::new(LIMITS, None);
            let mut held = Vec::new();
            for (memory, give_back) in shares {
                if give_back { held.pop(); }
                if let Ok(share) = admission.try_reserve(memory) { held.push(share); }
                let used = admission.used();
                prop_assert!(used.sandboxes <= LIMITS.sandboxes && used.memory_mib <= LIMITS.memory_mib);
                prop_assert_eq!(used.sandboxes, held.len());
            }
            drop(held);
            prop_assert_eq!(admission.used(), Used::default());
        }
    }
}
