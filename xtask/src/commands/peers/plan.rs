//! What is measured, and in which order.
//!
//! ```text
//!   round 0    round 1    round 2
//!   F P C      C P F      F P C  …      F: Firecracker · P: ours, prepared · C: ours, cold
//! ```
//!
//! Every round has each arm once, and every other round runs backwards: what drifts steadily, and what one arm leaves for
//! the next, falls on all arms alike.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Restores in a block at concurrency 1. One would give the calibration more weight than the thing measured; many would
/// put the sides of a round far apart in time.
const SINGLE_BLOCK: usize = 5;

/// One way to get a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// Firecracker: spawn, API socket, load with resume, first answer.
    Firecracker,
    /// `microvm` from a process that the daemon's pool would hold, made ready for this snapshot: restore, first answer.
    Prepared,
    /// `microvm` from nothing: spawn, control socket, restore, first answer.
    Cold,
}

impl Arm {
    /// Those that restores are measured with.
    pub const ALL: [Self; 3] = [Self::Firecracker, Self::Prepared, Self::Cold];
    /// One for each program.
    pub const PROGRAMS: [Self; 2] = [Self::Firecracker, Self::Prepared];

    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::Prepared => "microvm, prepared",
            Self::Cold => "microvm, cold",
        }
    }
}

/// What a sample is a sample of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// From asking for a machine to the first answer of its agent.
    Restore,
    /// The call that stops a running guest.
    Pause,
    /// The call that writes a diff snapshot, after a small command.
    SnapshotDiff,
    /// The call that writes a full snapshot.
    SnapshotFull,
    /// Ours: the `rollback` call to the first answer. The peer has none: a new process from the snapshot.
    Rollback,
}

impl Measure {
    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Restore => "restore to answer",
            Self::Pause => "pause",
            Self::SnapshotDiff => "diff snapshot",
            Self::SnapshotFull => "full snapshot",
            Self::Rollback => "rollback to answer",
        }
    }
}

/// Where and when a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    /// Guest memory.
    pub memory_mib: u32,
    /// Machines asked for at once.
    pub concurrency: usize,
    /// Counts from 0.
    pub round: usize,
    /// Whose turn it is.
    pub arm: Arm,
}

/// Everything the driver is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The peer's program.
    pub firecracker: PathBuf,
    /// Our program.
    pub microvm: PathBuf,
    /// Guest kernel for both.
    pub kernel: PathBuf,
    /// Disks for both: agent, root file system, formatted writable disk.
    pub agent_disk: PathBuf,
    /// See `agent_disk`.
    pub rootfs: PathBuf,
    /// See `agent_disk`.
    pub overlay: PathBuf,
    /// Where `overlay` has data: first byte and length of each piece.
    pub overlay_pieces: Vec<(u64, u64)>,
    /// What the template says about its sessions.
    pub session: Session,
    /// Sizes of guest memory, each measured in full.
    pub memory_mib: Vec<u32>,
    /// Restores of each arm at each concurrency, at least.
    pub samples: usize,
    /// Machines asked for at once.
    pub concurrency: Vec<usize>,
    /// Rounds of pause, snapshots and rollback.
    pub operations: usize,
    /// Machines that live side by side when memory is read; 0 leaves it out.
    pub memory_vms: usize,
}

/// How the agent of a template is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Name of the template.
    pub template: String,
    /// Who runs commands.
    pub user: String,
    /// Where.
    pub workdir: String,
    /// Whether the code interpreter is served.
    pub code_interpreter: bool,
}

impl Plan {
    /// Restores in one block.
    #[must_use]
    pub fn per_block(concurrency: usize) -> usize {
        match concurrency {
            0 | 1 => SINGLE_BLOCK,
            many => many,
        }
    }

    /// Blocks of restores at one size and concurrency, in order.
    #[must_use]
    pub fn restores(&self, memory_mib: u32, concurrency: usize) -> Vec<Slot> {
        let rounds = self.samples.div_ceil(Self::per_block(concurrency));
        blocks(&Arm::ALL, memory_mib, concurrency, rounds)
    }

    /// Blocks of the other operations at one size, in order.
    #[must_use]
    pub fn operations(&self, memory_mib: u32) -> Vec<Slot> {
        blocks(&Arm::PROGRAMS, memory_mib, 1, self.operations)
    }

    /// Blocks of memory readings at one size, in order: there and back.
    #[must_use]
    pub fn memory(&self, memory_mib: u32) -> Vec<Slot> {
        match self.memory_vms {
            0 => Vec::new(),
            vms => blocks(&Arm::PROGRAMS, memory_mib, vms, 2),
        }
    }
}

fn blocks(arms: &[Arm], memory_mib: u32, concurrency: usize, rounds: usize) -> Vec<Slot> {
    let slot = |round, arm| Slot {
        memory_mib,
        concurrency,
        round,
        arm,
    };
    (0..rounds)
        .flat_map(|round| {
            let mut arms = arms.to_vec();
            if round % 2 == 1 {
                arms.reverse();
            }
            arms.into_iter().map(move |arm| slot(round, arm))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_mirror_each_other() {
        let order: Vec<_> = blocks(&Arm::ALL, 256, 1, 2).iter().map(|s| s.arm).collect();
        let [f, p, c] = Arm::ALL;
        assert_eq!(order, [f, p, c, c, p, f]);
    }

    proptest! {
        #[test]
        fn every_arm_gets_as_much_and_enough(samples in 1usize..500, concurrency in 1usize..60) {
            let plan = Plan { samples, ..plan() };
            let slots = plan.restores(256, concurrency);
            let of = |arm| slots.iter().filter(|slot| slot.arm == arm).count();
            let rounds = of(Arm::Firecracker);
            prop_assert!(Arm::ALL.iter().all(|&arm| of(arm) == rounds));
            prop_assert!(rounds * Plan::per_block(concurrency) >= samples);
            prop_assert!((rounds - 1) * Plan::per_block(concurrency) < samples);
            // Places within a round balance over any two neighbouring rounds.
            for (index, slot) in slots.iter().enumerate() {
                prop_assert_eq!(slot.round, index / 3);
                let mirrored = slots.get(2 * 3 * (index / 6) + 5 - index % 6);
                prop_assert!(mirrored.is_none_or(|other| other.arm == slot.arm));
            }
        }
    }

    fn plan() -> Plan {
        Plan {
            firecracker: "/peer".into(),
            microvm: "/microvm".into(),
            kernel: "/vmlinux".into(),
            agent_disk: "/agent.erofs".into(),
            rootfs: "/rootfs.erofs".into(),
            overlay: "/overlay.ext4".into(),
            overlay_pieces: Vec::new(),
            session: Session {
                template: "base".into(),
                user: "user".into(),
                workdir: "/".into(),
                code_interpreter: false,
            },
            memory_mib: vec![256],
            samples: 10,
            concurrency: vec![1],
            operations: 2,
            memory_vms: 3,
        }
    }
}
