//! The lives of all sandboxes.
//!
//! ```text
//!   API ─┐                     ┌─ lock ─┐
//!   timer├─► Manager::drive ──►│ Life:: │──► actions ──► performed in a task of their own
//!   death┘    (sandbox, event) │  step  │      │            store · machine · egress · expiry timer
//!                              └────────┘      └──► reports its outcome as the next event
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`terms`], [`state`] | the state machine: pure, property-tested |
//! | [`expiry`] | deadlines behind one timer |
//! | [`sandbox`] | one sandbox: facts, state, machine, traffic |
//! | [`manager`] | the registry, and the only place where steps become actions |
//! | [`create`] | a machine for a new sandbox |
//! | [`capture`] | a snapshot of a machine: what pausing, snapshots, forks and checkpoints share |
//! | [`pause`], [`resume`] | a snapshot in the place of the machine, and back |
//! | [`snapshots`], [`fork`] | new sandboxes from a running one, later or at once |
//! | [`checkpoints`], [`rollback`] | going back in place |
//! | [`network`] | other network options |
//! | [`ending`] | giving everything back |
//! | [`sampling`] | samples of resource use, bounds of logs |
//! | [`recovery`] | what a starting daemon does with what an earlier one left |
//!
//! Ordering rules:
//! 1. A step is taken under the sandbox's lock, which is never held across an `await`.
//! 2. From a step to the spawning of its actions there is no `await`: a client that goes away cannot make an action
//!    get lost.
//! 3. An operation (create, pause, resume, capture, rollback) is a task of its own that reports exactly one outcome.
//!    A kill does not wait for it: the sandbox is gone for clients at once, and what the operation was about to give is
//!    thrown away when it reports.
//! 4. Changes of the deadline reach the timer and the store's queue under the lock, so in the order of the steps.

pub mod capture;
pub mod checkpoints;
pub mod create;
pub mod ending;
pub mod expiry;
pub mod fork;
pub mod manager;
pub mod network;
pub mod pause;
pub mod recovery;
pub mod resume;
pub mod rollback;
pub mod sampling;
pub mod sandbox;
pub mod snapshots;
pub mod state;
pub mod terms;
pub mod warming;

#[cfg(test)]
mod capture_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod pause_tests;
#[cfg(test)]
mod storm_tests;
#[cfg(test)]
pub mod tests;
