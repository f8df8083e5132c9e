//! Deadlines of all sandboxes behind one timer.
//!
//! ```text
//!   Schedule(id, moment) ──► heap of (moment, id), one live entry per id ──► one sleep until the nearest ──► due ids
//! ```
//!
//! The queue is pure; [`run`] gives it a clock. A sandbox whose deadline moved leaves a stale entry in the heap, which
//! is skipped when it surfaces; the heap is rebuilt when stale entries outnumber live ones, so it stays bounded by
//! twice the number of sandboxes. A tick is only a hint: the state machine decides whether the deadline has passed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::ids::SandboxId;
use crate::moment::Moment;

/// A sleep is never longer than this, so that a stepped wall clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Deadlines, nearest first.
#[derive(Debug, Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Moment, SandboxId)>>,
    live: HashMap<SandboxId, Moment>,
}

impl Deadlines {
    /// Sets the deadline of a sandbox; a former one is void.
    pub fn set(&mut self, id: SandboxId, moment: Moment) {
        self.live.insert(id.clone(), moment);
        self.heap.push(Reverse((moment, id)));
        if self.heap.len() > 64 && self.heap.len() > 2 * self.live.len() {
            self.heap = self
                .live
                .iter()
                .map(|(id, moment)| Reverse((*moment, id.clone())))
                .collect();
        }
    }

    /// Forgets a sandbox.
    pub fn remove(&mut self, id: &SandboxId) {
        self.live.remove(id);
    }

    /// The nearest deadline.
    pub fn next(&mut self) -> Option<Moment> {
        while let Some(Reverse((moment, id))) = self.heap.peek() {
            if self.live.get(id) == Some(moment) {
                return Some(*moment);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes out every sandbox whose deadline is `now` or earlier.
    pub fn due(&mut self, now: Moment) -> Vec<SandboxId> {
        let mut due = Vec::new();
        while self.next().is_some_and(|moment| moment <= now) {
            if let Some(Reverse((_, id))) = self.heap.pop() {
                self.live.remove(&id);
                due.push(id);
            }
        }
        due
    }
}

/// A change of one sandbox's deadline.
#[derive(Debug)]
pub enum Change {
    /// It is now this.
    Set(SandboxId, Moment),
    /// There is none any more.
    Remove(SandboxId),
}

/// Watches deadlines until the sender of `changes` is dropped; calls `fire` for each sandbox that is due.
pub async fn run(mut changes: mpsc::UnboundedReceiver<Change>, fire: impl Fn(SandboxId)) {
    let mut deadlines = Deadlines::default();
    loop {
        let wait = deadlines
            .next()
            .map_or(LONGEST_SLEEP, |next| next.after(Moment::now()))
            .min(LONGEST_SLEEP);
        tokio::select! {
            change = changes.recv() => match change {
                Some(Change::Set(id, moment)) => deadlines.set(id, moment),
                Some(Change::Remove(id)) => deadlines.remove(&id),
                None => return,
            },
            () = tokio::time::sleep(wait) => deadlines.due(Moment::now()).into_iter().for_each(&fire),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{Deadlines, Moment, SandboxId};

    fn id(n: u8) -> SandboxId {
        SandboxId::parse(&format!("i{n}")).unwrap()
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in proptest::collection::vec((0u8..6, 0i64..50, 0u8..3), 0..300)) {
            let mut deadlines = Deadlines::default();
            let mut model: HashMap<SandboxId, Moment> = HashMap::new();
            for (n, micros, what) in steps {
                let moment = Moment::from_micros(micros);
                match what {
                    0 => { deadlines.set(id(n), moment); model.insert(id(n), moment); }
                    1 => { deadlines.remove(&id(n)); model.remove(&id(n)); }
                    _ => {
                        let mut due = deadlines.due(moment);
                        let mut expected: Vec<_> = model.iter()
                            .filter(|(_, m)| **m <= moment).map(|(i, _)| i.clone()).collect();
                        model.retain(|_, m| *m > moment);
                        due.sort();
                        expected.sort();
                        prop_assert_eq!(due, expected);
                    }
                }
                prop_assert_eq!(deadlines.next(), model.values().min().copied());
                prop_assert!(deadlines.heap.len() <= 66.max(2 * deadlines.live.len() + 1));
            }
        }
    }

    #[tokio::test]
    async fn fires_what_is_due_and_stops_with_its_sender() {
        let (changes, receiver) = tokio::sync::mpsc::unbounded_channel();
        let (fired, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(super::run(receiver, move |id| {
            let _ = fired.send(id);
        }));
        changes
            .send(super::Change::Set(id(1), Moment::now().plus_seconds(3_600)))
            .unwrap();
        changes
            .send(super::Change::Set(id(2), Moment::now()))
            .unwrap();
        assert_eq!(seen.recv().await, Some(id(2)));
        drop(changes);
        task.await.unwrap();
        assert_eq!(seen.recv().await, None);
    }
}
