//! From what a run showed to outcomes, and from outcomes to the report's lines. Pure.

use std::fmt;

use super::layout::Mailbox;
use super::stage::{Stage, StageSet};
use crate::check::Check;

/// A message of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stage began.
    Started(Stage),
    /// The stage passed.
    Passed(Stage),
    /// The CPU does not offer what the stage tries.
    Absent(Stage),
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All stages asked for were tried.
    Done,
    /// The guest saw a wrong value.
    WrongValue,
    /// The guest caught an exception; its record is in the mailbox.
    Exception,
    /// KVM could not emulate an instruction.
    Emulation {
        /// Where.
        rip: u64,
        /// Its first bytes, as far as guest memory holds them.
        bytes: Vec<u8>,
    },
    /// KVM reported another internal error.
    Internal {
        /// `KVM_INTERNAL_ERROR_*`.
        suberror: u32,
    },
    /// Triple fault.
    Shutdown,
    /// The CPU refused to enter the guest.
    EntryFailed {
        /// The hardware's reason.
        reason: u64,
    },
    /// The time limit ran out.
    TimedOut {
        /// Where the guest was, when KVM still says so.
        rip: Option<u64>,
    },
    /// A KVM call failed.
    Kvm {
        /// Which one.
        call: &'static str,
        /// `errno`.
        errno: i32,
    },
    /// An exit the guest has no reason to cause.
    Unexpected(String),
}

/// All that one run showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What was asked for.
    pub asked: StageSet,
    /// The guest's messages in order.
    pub events: Vec<Event>,
    /// Why it ended.
    pub end: End,
    /// What the mailbox held at the end.
    pub mailbox: Mailbox,
}

/// How a stage failed: the run's end with the guest's own records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why the run ended.
    pub end: End,
    /// What the mailbox held.
    pub mailbox: Mailbox,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            End::Done => f.write_str("the guest ended without reporting on it"),
            End::WrongValue => f.write_str("executed, but with a wrong result"),
            End::Exception => match self.mailbox.fault {
                Some(fault) => write!(
                    f,
                    "exception {} ({}), error code {:#x}, at {:#x} in CPL {}",
                    fault.vector,
                    exception_name(fault.vector),
                    fault.error,
                    fault.rip,
                    fault.cs & 3
                ),
                None => f.write_str("an exception that left no record"),
            },
            End::Emulation { rip, bytes } => {
                write!(
                    f,
                    "KVM_EXIT_INTERNAL_ERROR: emulation failure at {rip:#x}, bytes"
                )?;
                bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
            End::Internal { suberror } => {
                write!(f, "KVM_EXIT_INTERNAL_ERROR: suberror {suberror}")
            }
            End::Shutdown => f.write_str("KVM_EXIT_SHUTDOWN: triple fault"),
            End::EntryFailed { reason } => {
                write!(f, "KVM_EXIT_FAIL_ENTRY: hardware reason {reason:#x}")
            }
            End::TimedOut { rip: Some(rip) } => {
                write!(f, "hung until its time ran out, at {rip:#x}")
            }
            End::TimedOut { rip: None } => f.write_str("hung until its time ran out"),
            End::Kvm { call, errno } => {
                write!(f, "{call}: {}", std::io::Error::from_raw_os_error(*errno))
            }
            End::Unexpected(exit) => write!(f, "unexpected exit {exit}"),
        }
    }
}

fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        3 => "breakpoint",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection",
        14 => "page fault",
        _ => "see SDM volume 3, 6.3.1",
    }
}

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As a kernel needs it.
    Passed,
    /// The CPU does not list the feature, so no kernel will use it.
    Absent,
    /// Tried and failed.
    Failed(Failure),
    /// Could not be tried.
    NotRun,
}

/// The outcome of each stage so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes([Option<Outcome>; Stage::ALL.len()]);

impl Outcomes {
    /// The outcome of a stage, once there is one.
    #[must_use]
    pub fn get(&self, stage: Stage) -> Option<&Outcome> {
        self.0.get(stage as usize - 1)?.as_ref()
    }

    fn set(&mut self, stage: Stage, outcome: Outcome) {
        if let Some(slot) = self.0.get_mut(stage as usize - 1) {
            slot.get_or_insert(outcome);
        }
    }

    /// What the next run is to try: stages without an outcome, on top of the foundation.
    #[must_use]
    pub fn open_stages(&self) -> StageSet {
        let open: Vec<Stage> = Stage::ALL
            .into_iter()
            .filter(|stage| self.get(*stage).is_none())
            .collect();
        if open.is_empty() {
            return StageSet::default();
        }
        open.into_iter()
            .chain(Stage::ALL.into_iter().filter(|s| s.is_foundation()))
            .collect()
    }

    /// Takes in what a run showed. Afterwards at least one stage more has an outcome.
    pub fn absorb(&mut self, trace: &Trace) {
        let mut running = None;
        for event in &trace.events {
            match *event {
                Event::Started(stage) => running = Some(stage),
                Event::Passed(stage) => {
                    self.set(stage, Outcome::Passed);
                    running = None;
                }
                Event::Absent(stage) => {
                    self.set(stage, Outcome::Absent);
                    running = None;
                }
            }
        }
        if trace.end == End::Done && running.is_none() {
            // The guest went through all it was asked; what has no outcome now never will.
            self.give_up();
            return;
        }
        let failure = Failure {
            end: trace.end.clone(),
            mailbox: trace.mailbox,
        };
        // Between two stages only the next one asked for can be to blame.
        let blamed = running.or_else(|| {
            Stage::ALL
                .into_iter()
                .find(|stage| trace.asked.contains(*stage) && self.get(*stage).is_none())
        });
        match blamed {
            Some(stage) if self.get(stage).is_none() && !stage.is_foundation() => {
                self.set(stage, Outcome::Failed(failure));
            }
            Some(stage) => {
                self.set(stage, Outcome::Failed(failure));
                self.give_up();
            }
            None => self.give_up(),
        }
    }

    /// Marks every stage without an outcome as not run.
    pub fn give_up(&mut self) {
        for stage in Stage::ALL {
            self.set(stage, Outcome::NotRun);
        }
    }
}

/// The report's lines on the probe guest, one a stage.
#[must_use]
pub fn checks(outcomes: &Outcomes) -> Vec<Check> {
    Stage::ALL
        .into_iter()
        .map(|stage| line(stage, outcomes.get(stage).unwrap_or(&Outcome::NotRun)))
        .collect()
}

fn line(stage: Stage, outcome: &Outcome) -> Check {
    let name = format!("probe:{stage}");
    match outcome {
        Outcome::Passed => Check::ok(&name, stage.passing(), stage.purpose()),
        Outcome::Absent => Check::ok(&name, "not offered by the CPU", "No kernel will use it"),
        Outcome::NotRun => Check::fail(
            &name,
            "not run",
            "An earlier stage stopped the guest",
            "See the stage above",
        ),
        Outcome::Failed(failure) => {
            let Mailbox {
                user_cs,
                syscall_cs,
                ..
            } = failure.mailbox;
            let found = match (stage, user_cs, syscall_cs) {
                (Stage::UserMode, Some(cs), _) => format!(
                    "user code ran in CPL {}, but int $0x80 did not bring it back: {failure}",
                    cs & 3
                ),
                (Stage::UserMode, None, _) => format!("iretq did not reach user code: {failure}"),
                (Stage::Syscall, _, Some(cs)) if cs & 3 != 0 => {
                    format!(
                        "syscall arrived at LSTAR still in CPL {} (CS {cs:#x}); {failure}",
                        cs & 3
                    )
                }
                (Stage::Syscall, _, Some(_)) => {
                    format!("syscall arrived in CPL 0, but sysret did not return: {failure}")
                }
                (Stage::Syscall, _, None) => format!("syscall never arrived at LSTAR: {failure}"),
                _ => failure.to_string(),
            };
            Check::fail(
                &name,
                found,
                stage.purpose(),
                "Needs VMX or SVM, real or nested; else the lab host (`cargo xtask up --lab`)",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;
    use crate::probe::layout::Fault;
    use proptest::prelude::*;

    fn trace(events: &[Event], end: End) -> Trace {
        Trace {
            asked: Stage::ALL.into_iter().collect(),
            events: events.to_vec(),
            end,
            mailbox: Mailbox::default(),
        }
    }

    fn passed(stages: &[Stage]) -> Vec<Event> {
        stages
            .iter()
            .flat_map(|s| [Event::Started(*s), Event::Passed(*s)])
            .collect()
    }

    #[test]
    fn a_whole_run_passes_every_stage() {
        let mut outcomes = Outcomes::default();
        outcomes.absorb(&trace(&passed(&Stage::ALL), End::Done));
        assert!(outcomes.open_stages().is_empty());
        assert!(
            checks(&outcomes)
                .iter()
                .all(|check| check.status == Status::Ok)
        );
    }

    #[test]
    fn the_stage_that_ran_last_is_blamed_and_the_rest_stays_open() {
        let mut outcomes = Outcomes::default();
        let mut events = passed(&[Stage::LongMode, Stage::Tables]);
        events.push(Event::Started(Stage::Breakpoint));
        let end = End::Emulation {
            rip: 0x1_0055,
            bytes: vec![0xcc, 0x83],
        };
        outcomes.absorb(&trace(&events, end));
        assert!(matches!(
            outcomes.get(Stage::Breakpoint),
            Some(Outcome::Failed(_))
        ));
        assert_eq!(outcomes.get(Stage::SwapGs), None);
        let open = outcomes.open_stages();
        assert!(open.contains(Stage::Tables) && open.contains(Stage::SwapGs));
        assert!(!open.contains(Stage::Breakpoint));
        insta::assert_snapshot!(checks(&outcomes)[2].found, @"KVM_EXIT_INTERNAL_ERROR: emulation failure at 0x10055, bytes cc 83");
    }

    #[test]
    fn without_a_foundation_nothing_else_is_tried() {
        let mut outcomes = Outcomes::default();
        outcomes.absorb(&trace(&[Event::Started(Stage::LongMode)], End::Shutdown));
        assert!(outcomes.open_stages().is_empty());
        assert_eq!(outcomes.get(Stage::Smap), Some(&Outcome::NotRun));
    }

    #[test]
    fn a_syscall_in_the_wrong_level_is_said_in_so_many_words() {
        let mut outcomes = Outcomes::default();
        let mut events = passed(&Stage::ALL[..5]);
        events.push(Event::Started(Stage::Syscall));
        let mut trace = trace(&events, End::Exception);
        trace.mailbox = Mailbox {
            fault: Some(Fault {
                vector: 6,
                error: 0,
                rip: 0x1_0200,
                cs: 0x2b,
            }),
            user_cs: Some(0x2b),
            syscall_cs: Some(0x33),
        };
        outcomes.absorb(&trace);
        insta::assert_snapshot!(checks(&outcomes)[5].found, @"syscall arrived at LSTAR still in CPL 3 (CS 0x33); exception 6 (invalid opcode), error code 0x0, at 0x10200 in CPL 3");
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let stage = (0..Stage::ALL.len()).prop_map(|n| Stage::ALL[n]);
        (stage, 0..3).prop_map(|(stage, kind)| match kind {
            0 => Event::Started(stage),
            1 => Event::Passed(stage),
            _ => Event::Absent(stage),
        })
    }

    proptest! {
        /// Whatever a guest sends, the probe comes to an end: each run settles at least one stage.
        #[test]
        fn every_run_makes_progress(
            runs in prop::collection::vec((prop::collection::vec(any_event(), 0..30), any::<bool>()), 1..20)
        ) {
            let mut outcomes = Outcomes::default();
            for (events, done) in runs {
                let open = |o: &Outcomes| Stage::ALL.iter().filter(|s| o.get(**s).is_none()).count();
                let before = open(&outcomes);
                if before == 0 {
                    break;
                }
                let mut trace = trace(&events, if done { End::Done } else { End::Shutdown });
                trace.asked = outcomes.open_stages();
                outcomes.absorb(&trace);
                prop_assert!(open(&outcomes) < before);
            }
        }
    }
}
