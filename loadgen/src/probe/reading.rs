//! Questions to a host and its readings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use reports::model::Machine;
use reports::probe::machine;
use serde::{Deserialize, Serialize};

use super::counts;
use super::maps::{kib, memory};

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Name of the processes that hold sandboxes, as /proc/PID/comm has it.
    pub process: String,
    /// Name of the daemon whose open descriptors are counted.
    pub daemon: String,
    /// Memory of a guest; `None`: memory of processes is not read.
    pub guest_bytes: Option<u64>,
    /// Folders whose files are counted.
    pub folders: Vec<PathBuf>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The machine.
    pub machine: Machine,
    /// MemAvailable.
    pub available_bytes: u64,
    /// Memory of the processes, where it was asked for and there are some.
    pub processes: Option<Processes>,
    /// Counts of what could leak, by name.
    pub counts: BTreeMap<String, u64>,
}

/// Memory of all processes that hold a guest, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processes {
    /// How many hold a guest; those that wait for one with its memory in place are among them.
    pub count: u64,
    /// Proportional sets.
    pub pss: u64,
    /// Pages of their own that were written.
    pub private_dirty: u64,
    /// Proportional sets without guest memory.
    pub vmm_pss: u64,
    /// What their cgroups are charged; 0 where none can be read.
    pub cgroup: u64,
}

/// Looks at this machine.
#[must_use]
pub fn here(question: &Question) -> Reading {
    let ids = counts::processes(&question.process);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = meminfo.lines().find_map(|line| kib(line, "MemAvailable:"));
    Reading {
        machine: machine(),
        available_bytes: available.unwrap_or(0),
        processes: question.guest_bytes.and_then(|guest| measured(&ids, guest)),
        counts: counts::all(&ids, &question.daemon, &question.folders),
    }
}

fn measured(ids: &[u32], guest_bytes: u64) -> Option<Processes> {
    let mut sum = Processes::default();
    let mut cgroups = BTreeSet::new();
    for id in ids {
        // A process that has ended meanwhile, or may not be looked at, is not counted.
        let smaps = fs::read_to_string(format!("/proc/{id}/smaps"));
        let Some(memory) = smaps.ok().and_then(|smaps| memory(&smaps, guest_bytes)) else {
            continue;
        };
        sum.count += 1;
        sum.pss += memory.pss;
        sum.private_dirty += memory.private_dirty;
        sum.vmm_pss += memory.vmm_pss;
        let line = fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap_or_default();
        let group = line
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .map(str::to_owned);
        cgroups.extend(group.filter(|group| group != "/"));
    }
    for group in cgroups {
        let charged = fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.current"));
        sum.cgroup += charged
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
    }
    (sum.count > 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read() {
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let reading = here(&Question {
            process: comm.trim().to_owned(),
            daemon: comm.trim().to_owned(),
            guest_bytes: Some(1),
            folders: vec![PathBuf::from("/proc/self/task")],
        });
        let processes = reading.processes.unwrap();
        assert!(
            processes.count >= 1 && processes.pss > 100 << 10,
            "{processes:?}"
        );
        assert!(reading.available_bytes > 1 << 20);
        assert!(
            reading.counts["processes"] >= 1 && reading.counts["fds"] > 2,
            "{:?}",
            reading.counts
        );
    }
}
