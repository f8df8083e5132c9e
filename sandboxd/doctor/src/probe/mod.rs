//! A tiny guest that walks through what a stock kernel needs of a CPU, and what came of it.
//!
//! ```text
//!          ┌────────────── fresh VM, stages still open ◄───────────────┐
//!          ▼                                                           │
//!   long-mode ► tables ► breakpoint ► … ► smap ► done        the stage failed:
//!          └───────────── exit, exception, time-out ────► note it, drop it, go on after it
//! ```
//!
//! Each run is a VM of its own with a time limit; a stage that fails is taken out and the next run
//! starts behind it, so that one report names every failing stage and none hides another. Without
//! the first two stages nothing else can run, so their failure ends the probe.

mod guest;
mod layout;
mod machine;
mod stage;
mod verdict;
mod watchdog;

use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;

pub use stage::{Stage, StageSet};
pub use verdict::{End, Event, Failure, Outcome, Outcomes, Trace, checks};

/// Longest time one run of the guest may take. On hardware a run takes milliseconds.
pub const RUN_TIME: Duration = Duration::from_secs(5);

/// Longest time of all runs together, however many stages hang.
pub const TOTAL_TIME: Duration = Duration::from_secs(20);

/// Runs the probe guest until every stage has an outcome.
#[must_use]
pub fn run(kvm: &Kvm) -> Outcomes {
    let deadline = Instant::now() + TOTAL_TIME;
    let mut outcomes = Outcomes::default();
    loop {
        let open = outcomes.open_stages();
        if open.is_empty() {
            return outcomes;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            outcomes.give_up();
            return outcomes;
        }
        let trace = machine::run(kvm, open, RUN_TIME.min(left));
        outcomes.absorb(&trace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever this machine's KVM can do, the outcomes must be complete and must not contradict
    /// each other; where no KVM opens there is nothing to run and the device check says so.
    #[test]
    fn the_guest_really_runs_and_its_outcomes_are_consistent() {
        let Ok(kvm) = Kvm::new() else {
            let opened = crate::kvm::open();
            assert_eq!(opened.checks[0].status, crate::Status::Fail);
            return;
        };
        let outcomes = run(&kvm);
        for stage in Stage::ALL {
            let outcome = outcomes.get(stage);
            assert!(outcome.is_some(), "{stage} has no outcome");
            if stage.is_foundation() && !matches!(outcome, Some(Outcome::Passed)) {
                assert!(
                    Stage::ALL
                        .iter()
                        .filter(|s| **s > stage)
                        .all(|s| matches!(outcomes.get(*s), Some(Outcome::NotRun))),
                    "stages ran without {stage}"
                );
            }
        }
        assert_eq!(checks(&outcomes).len(), Stage::ALL.len());
    }

    /// A second run in the same process must see the same machine.
    #[test]
    fn running_twice_gives_the_same_stages() {
        let Ok(kvm) = Kvm::new() else { return };
        let passed = |outcomes: &Outcomes| -> Vec<bool> {
            Stage::ALL
                .iter()
                .map(|s| outcomes.get(*s) == Some(&Outcome::Passed))
                .collect()
        };
        assert_eq!(passed(&run(&kvm)), passed(&run(&kvm)));
    }
}
