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
//! | [`state`] | the state machine: pure, property-tested |
//! | [`expiry`] | deadlines behind one timer |
//! | [`sandbox`] | one live sandbox: facts, state, machine, traffic |
//! | [`manager`] | the registry, and the only place where steps become actions |
//! | [`sampling`] | samples of resource use, bounds of logs |
//! | [`recovery`] | what a starting daemon does with what an earlier one left |
//!
//! Ordering rules:
//! 1. A step is taken under the sandbox's lock, which is never held across an `await`.
//! 2. From a step to the spawning of its actions there is no `await`: a client that goes away cannot make an action
//!    get lost.
//! 3. Changes of the deadline reach the timer and the store's queue under the lock, so in the order of the steps.

pub mod expiry;
pub mod manager;
pub mod recovery;
pub mod sampling;
pub mod sandbox;
pub mod state;
pub mod warming;

#[cfg(test)]
pub mod tests;
