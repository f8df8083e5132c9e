//! How long each stage of a start took.
//!
//! ```text
//!   queue ─► store ─► network ─┬─ pool  (a process that waits, ready) ───────────────────┐
//!                              └─ spawn (a new one) ─► prepare ──────────────────────────┤
//!   ┌────────────────────────────────────────────────────────────────────────────────────┘
//!   ├─► open ─► memory ─► prefetch ─► cpus ─► devices ─► resume ─► control ─┐
//!   └─► boot ───────────────────────────────────────────────────────────────┴─► agent ─► configure ─► store
//! ```
//!
//! A stage that did not happen is not there: what a process from the pool has behind it took no time of the start. What
//! is left between their sum and what a client waited is shown as a stage of its own by whoever knows the whole.

use std::fmt;
use std::time::Duration;

use vmm::snapshot::Stages as Reported;

/// A part of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for admission.
    Queue,
    /// Writing intent and outcome down.
    Store,
    /// Getting a network device with its policy.
    Network,
    /// Taking a process out of the pool, and making its folders the sandbox's.
    Pool,
    /// Starting a process, to its first answer on the control connection.
    Spawn,
    /// The whole `boot` operation.
    Boot,
    /// Reading the snapshot's description.
    Open,
    /// Making the KVM VM, its processors and threads.
    Prepare,
    /// Mapping the snapshot's memory.
    Memory,
    /// Bringing in the pages that are known to be touched first.
    Prefetch,
    /// State of processors, interrupt controllers and clock.
    Cpus,
    /// Making the devices: disks, sockets, network card; their registers and queues.
    Devices,
    /// Letting the processors go.
    Resume,
    /// The rest of the operation that made the machine: its way there and back.
    Control,
    /// From the first instruction to the agent's first answer.
    Agent,
    /// What makes the guest this sandbox and no other: identity, randomness, clock, limits.
    Configure,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 16] = [
        Self::Queue,
        Self::Store,
        Self::Network,
        Self::Pool,
        Self::Spawn,
        Self::Boot,
        Self::Open,
        Self::Prepare,
        Self::Memory,
        Self::Prefetch,
        Self::Cpus,
        Self::Devices,
        Self::Resume,
        Self::Control,
        Self::Agent,
        Self::Configure,
    ];

    /// Its name in headers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Store => "store",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Spawn => "spawn",
            Self::Boot => "boot",
            Self::Open => "open",
            Self::Prepare => "prepare",
            Self::Memory => "memory",
            Self::Prefetch => "prefetch",
            Self::Cpus => "cpus",
            Self::Devices => "devices",
            Self::Resume => "resume",
            Self::Control => "control",
            Self::Agent => "agent",
            Self::Configure => "configure",
        }
    }

    /// The stage to which a stage of the `microvm` process belongs.
    fn of_process(name: &str) -> Option<Self> {
        Some(match name {
            "open" | "verify" => Self::Open,
            "prepare" | "filter" => Self::Prepare,
            "memory" | "blank" => Self::Memory,
            "prefetch" => Self::Prefetch,
            "cpus" => Self::Cpus,
            "devices" | "queues" => Self::Devices,
            "resume" => Self::Resume,
            _ => return None,
        })
    }
}

/// Time per stage.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages([Option<Duration>; Stage::ALL.len()]);

impl Stages {
    /// Adds to a stage.
    pub fn add(&mut self, stage: Stage, time: Duration) {
        if let Some((_, slot)) = Stage::ALL
            .iter()
            .zip(&mut self.0)
            .find(|(s, _)| **s == stage)
        {
            *slot = Some(slot.unwrap_or_default() + time);
        }
    }

    /// Adds what a process says about an operation that took `whole` as seen from here.
    pub fn add_operation(&mut self, reported: &Reported, whole: Duration) {
        let mut named = Duration::ZERO;
        for (name, ns) in &reported.0 {
            let time = Duration::from_nanos(*ns);
            if let Some(stage) = Stage::of_process(name) {
                self.add(stage, time);
                named += time;
            }
        }
        self.add(Stage::Control, whole.saturating_sub(named));
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Self) {
        for (stage, time) in other.taken() {
            self.add(stage, time);
        }
    }

    /// How long a stage took; `None` when it did not happen.
    pub fn of(&self, stage: Stage) -> Option<Duration> {
        self.taken()
            .find(|(s, _)| *s == stage)
            .map(|(_, time)| time)
    }

    /// The stages that happened, in order.
    pub fn taken(&self) -> impl Iterator<Item = (Stage, Duration)> {
        let all = Stage::ALL.into_iter().zip(self.0);
        all.filter_map(|(stage, time)| Some((stage, time?)))
    }

    /// All stages together.
    pub fn sum(&self) -> Duration {
        self.taken().map(|(_, time)| time).sum()
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.taken().map(|(stage, time)| (stage.name(), time));
        f.debug_map().entries(named).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_says_adds_up_to_what_was_seen() {
        let ms = Duration::from_millis;
        let reported = [
            ("open", 1),
            ("memory", 2),
            ("devices", 3),
            ("queues", 4),
            ("new", 5),
        ];
        let reported = reported.map(|(name, ms)| (name.to_owned(), ms * 1_000_000));
        let reported = Reported(reported.to_vec());
        let mut stages = Stages::default();
        stages.add_operation(&reported, ms(20));
        stages.add(Stage::Agent, ms(5));
        assert_eq!(stages.of(Stage::Devices), Some(ms(7)));
        assert_eq!(stages.of(Stage::Control), Some(ms(10)));
        assert_eq!(stages.of(Stage::Boot), None);
        assert_eq!(stages.sum(), ms(25));
        // A process that says more than was seen does not make the rest negative.
        let mut stages = Stages::default();
        stages.add_operation(&reported, ms(1));
        assert_eq!(stages.of(Stage::Control), Some(ms(0)));
    }

    #[test]
    fn stages_come_in_their_order_under_names_of_their_own() {
        let mut stages = Stages::default();
        stages.add(Stage::Configure, Duration::ZERO);
        stages.add(Stage::Queue, Duration::ZERO);
        let mut more = Stages::default();
        more.add(Stage::Queue, Duration::from_secs(1));
        stages.add_all(&more);
        let names: Vec<_> = stages.taken().map(|(stage, _)| stage.name()).collect();
        assert_eq!(names, ["queue", "configure"]);
        assert_eq!(stages.sum(), Duration::from_secs(1));
        let names: std::collections::HashSet<_> = Stage::ALL.map(Stage::name).into();
        assert_eq!(names.len(), Stage::ALL.len());
    }
}
