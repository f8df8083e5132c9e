//! Which slot is free. Pure.
//!
//! ```text
//!              take                     release, pool not full
//!   unused ───────────► taken ◄─────► idle (its TAP stays, without a policy)
//!     ▲                  ▲ │
//!     │ sweep      adopt │ │ release, pool full
//!     └── orphaned ──────┘ └─► unused
//!   foreign: an interface of that name belongs to somebody else; never given out
//! ```
//!
//! Slots come back at the end of their queue, so that an address rests as long as possible before
//! another sandbox gets it.

use std::collections::{BTreeSet, VecDeque};

/// Slot allocation.
#[derive(Debug)]
pub struct Slots {
    /// Without a TAP, longest unused first.
    unused: VecDeque<u32>,
    /// With a TAP, longest idle first.
    idle: VecDeque<u32>,
    taken: BTreeSet<u32>,
    orphaned: BTreeSet<u32>,
    max_idle: usize,
}

/// What taking a slot gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its TAP exists.
    Warm(u32),
    /// Its TAP is to be made.
    Cold(u32),
}

/// What becomes of a released slot's TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It stays for the next.
    Keep,
    /// It goes.
    Delete,
}

impl Slots {
    /// Slots `0..total`, of which some have TAPs that a predecessor left and some are unusable.
    #[must_use]
    pub fn new(
        total: u32,
        max_idle: usize,
        orphaned: BTreeSet<u32>,
        foreign: &BTreeSet<u32>,
    ) -> Self {
        let unused = (0..total)
            .filter(|slot| !orphaned.contains(slot) && !foreign.contains(slot))
            .collect();
        Self {
            unused,
            idle: VecDeque::new(),
            taken: BTreeSet::new(),
            orphaned,
            max_idle,
        }
    }

    /// Takes a slot, one with a TAP before one without.
    pub fn take(&mut self) -> Option<Taken> {
        let taken = match self.idle.pop_front() {
            Some(slot) => Taken::Warm(slot),
            None => Taken::Cold(self.unused.pop_front()?),
        };
        let (Taken::Warm(slot) | Taken::Cold(slot)) = taken;
        self.taken.insert(slot);
        Some(taken)
    }

    /// Takes a slot whose TAP a predecessor left. False when there is no such slot.
    pub fn adopt(&mut self, slot: u32) -> bool {
        self.orphaned.remove(&slot) && self.taken.insert(slot)
    }

    /// Gives a slot back. `None` when it was not taken.
    pub fn release(&mut self, slot: u32) -> Option<Released> {
        if !self.taken.remove(&slot) {
            return None;
        }
        if self.idle.len() < self.max_idle {
            self.idle.push_back(slot);
            Some(Released::Keep)
        } else {
            self.unused.push_back(slot);
            Some(Released::Delete)
        }
    }

    /// Gives a slot back whose TAP is gone or was never made.
    pub fn forget(&mut self, slot: u32) {
        if self.taken.remove(&slot) {
            self.unused.push_back(slot);
        }
    }

    /// A slot to make a spare TAP for, while there are fewer than there should be.
    pub fn wants_spare(&self) -> Option<u32> {
        (self.idle.len() < self.max_idle)
            .then(|| self.unused.front().copied())
            .flatten()
    }

    /// A spare TAP was made for this slot.
    pub fn add_spare(&mut self, slot: u32) {
        if let Some(at) = self.unused.iter().position(|unused| *unused == slot) {
            self.unused.remove(at);
            self.idle.push_back(slot);
        }
    }

    /// Slots whose TAPs nobody adopted; they are unused from now on.
    pub fn sweep(&mut self) -> BTreeSet<u32> {
        let swept = std::mem::take(&mut self.orphaned);
        self.unused.extend(&swept);
        swept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(slots: &[u32]) -> BTreeSet<u32> {
        slots.iter().copied().collect()
    }

    #[test]
    fn a_released_slot_waits_its_turn() {
        let mut slots = Slots::new(3, 0, set(&[]), &set(&[]));
        assert_eq!(slots.take(), Some(Taken::Cold(0)));
        assert_eq!(slots.release(0), Some(Released::Delete));
        assert_eq!(slots.take(), Some(Taken::Cold(1)));
        assert_eq!(slots.take(), Some(Taken::Cold(2)));
        assert_eq!(slots.take(), Some(Taken::Cold(0)));
        assert_eq!(slots.take(), None);
        assert_eq!(slots.release(9), None);
    }

    #[test]
    fn spares_are_used_first_and_kept_up_to_their_number() {
        let mut slots = Slots::new(4, 1, set(&[]), &set(&[]));
        assert_eq!(slots.wants_spare(), Some(0));
        slots.add_spare(0);
        assert_eq!(slots.wants_spare(), None);
        assert_eq!(slots.take(), Some(Taken::Warm(0)));
        assert_eq!(slots.take(), Some(Taken::Cold(1)));
        assert_eq!(slots.release(1), Some(Released::Keep));
        assert_eq!(slots.release(0), Some(Released::Delete));
    }

    #[test]
    fn orphans_are_adopted_or_swept_and_foreign_names_left_alone() {
        let mut slots = Slots::new(4, 0, set(&[1, 2]), &set(&[0]));
        assert!(slots.adopt(1));
        assert!(!slots.adopt(1) && !slots.adopt(0) && !slots.adopt(3));
        assert_eq!(slots.take(), Some(Taken::Cold(3)));
        assert_eq!(slots.take(), None);
        assert_eq!(slots.sweep(), set(&[2]));
        assert_eq!(slots.take(), Some(Taken::Cold(2)));
        assert_eq!(slots.release(1), Some(Released::Delete));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Take,
        Release(u32),
        Forget(u32),
        Adopt(u32),
        Spare,
        Sweep,
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => Just(Op::Take),
            3 => (0..8_u32).prop_map(Op::Release),
            1 => (0..8_u32).prop_map(Op::Forget),
            1 => (0..8_u32).prop_map(Op::Adopt),
            1 => Just(Op::Spare),
            1 => Just(Op::Sweep),
        ]
    }

    proptest! {
        #[test]
        fn no_slot_is_held_twice_and_none_is_lost(ops in prop::collection::vec(any_op(), 0..60)) {
            let foreign = set(&[5]);
            let mut slots = Slots::new(8, 2, set(&[3, 6]), &foreign);
            let mut held = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Take => if let Some(Taken::Warm(slot) | Taken::Cold(slot)) = slots.take() {
                        prop_assert!(held.insert(slot), "{} was given out twice", slot);
                    },
                    Op::Release(slot) => prop_assert_eq!(slots.release(slot).is_some(), held.remove(&slot)),
                    Op::Forget(slot) => { slots.forget(slot); held.remove(&slot); }
                    Op::Adopt(slot) => if slots.adopt(slot) { prop_assert!(held.insert(slot)); },
                    Op::Spare => if let Some(slot) = slots.wants_spare() { slots.add_spare(slot); },
                    Op::Sweep => { slots.sweep(); }
                }
                prop_assert!(slots.idle.len() <= 2);
                prop_assert!(!held.contains(&5));
                let all = slots.unused.len() + slots.idle.len() + slots.taken.len() + slots.orphaned.len();
                prop_assert_eq!(all, 7);
            }
        }
    }
}
