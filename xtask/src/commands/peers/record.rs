//! Lines of raw samples: what the driver writes to its standard output, and what is kept of a run.
//!
//! One JSON object a line, each with its `record`. Times are whole nanoseconds.

use serde::{Deserialize, Serialize};

use super::plan::{Measure, Slot};

/// Durations by name, in the order they came.
pub type Stages = Vec<(String, u64)>;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// Where everything ran; the first line.
    Environment(Environment),
    /// A block is over.
    Block(Block),
    /// One machine did one thing.
    Sample(Sample),
    /// What machines that live side by side take.
    Memory(Memory),
}

/// The host, as seen by the driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Model of the processor.
    pub processor: String,
    /// Processors.
    pub processors: usize,
    /// Memory.
    pub memory_mib: u64,
    /// `uname` of the host.
    pub kernel: String,
    /// File system that snapshots, disks and programs lie on.
    pub file_system: String,
    /// What the programs say of themselves.
    pub versions: Vec<(String, String)>,
}

/// A block as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// What was measured.
    pub measure: Measure,
    /// Where it stands.
    pub slot: Slot,
    /// A fixed amount of native work, timed just before.
    pub calibration_ns: u64,
    /// From the first start to the last answer.
    pub wall_ns: u64,
    /// All of it, with what is not timed: making ready, asking once more, killing.
    pub total_ns: u64,
}

/// One reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// What was measured.
    pub measure: Measure,
    /// Where it stands.
    pub slot: Slot,
    /// How long it took, or why it failed.
    pub outcome: Outcome,
    /// Parts of it, as seen from outside; with the prefix `vmm:` as the `microvm` process says, which lie within the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Stages,
    /// Bytes written, for snapshots: what the files take of the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Connections to the agent that came to nothing before the one that was answered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// The same when it was asked once more, which is not timed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub check_retries: u32,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It took so long.
    Ns(u64),
    /// It failed: nothing to be timed.
    Failed(String),
}

/// Memory of machines that live side by side, all idle after their first answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Where it stands; `concurrency` is how many machines live.
    pub slot: Slot,
    /// How much less the host has available, in bytes, over all machines; less than nothing when others gave some back.
    pub available_delta: i64,
    /// Each process.
    pub processes: Vec<ProcessMemory>,
}

/// Memory of one process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessMemory {
    /// Proportional set size: shared pages count by their share.
    pub pss: u64,
    /// Pages that nobody else maps.
    pub private: u64,
    /// Of `pss`, what is not guest memory.
    pub vmm_pss: u64,
    /// Of `private`, what is not guest memory.
    pub vmm_private: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::super::plan::Arm;
    use super::*;

    #[test]
    fn lines_as_they_are_kept() {
        let slot = Slot {
            memory_mib: 256,
            concurrency: 8,
            round: 3,
            arm: Arm::Prepared,
        };
        let sample = |outcome| Sample {
            measure: Measure::SnapshotDiff,
            slot,
            outcome,
            stages: vec![("vmm:memory".into(), 5)],
            bytes: Some(4096),
            retries: 1,
            check_retries: 2,
        };
        let process = ProcessMemory {
            pss: 4,
            private: 3,
            vmm_pss: 2,
            vmm_private: 1,
        };
        let records = [
            Record::Environment(Environment::default()),
            Record::Block(Block {
                measure: Measure::Restore,
                slot,
                calibration_ns: 1,
                wall_ns: 2,
                total_ns: 3,
            }),
            Record::Sample(sample(Outcome::Ns(7))),
            Record::Sample(sample(Outcome::Failed("no answer".into()))),
            Record::Memory(Memory {
                slot,
                available_delta: -1,
                processes: vec![process],
            }),
        ];
        let lines: Vec<_> = records
            .iter()
            .map(|record| serde_json::to_string(record).unwrap())
            .collect();
        for (line, record) in lines.iter().zip(&records) {
            assert_eq!(&serde_json::from_str::<Record>(line).unwrap(), record);
        }
        insta::assert_snapshot!(lines.join("\n"));
    }
}
