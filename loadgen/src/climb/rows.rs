//! Rows of the memory table, from readings alone.

use std::fmt::Write;

use reports::model::load::{Activity, DensityRow};

use crate::live::line::ms;
use crate::probe::Reading;

/// How all sandboxes answered.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Times of those that did, in nanoseconds.
    pub times: Vec<u64>,
    /// How many did not.
    pub silent: u64,
}

/// A row: means for one sandbox.
#[must_use]
pub fn row(
    before: &Reading,
    now: &Reading,
    answers: &Answers,
    activity: Activity,
    guest_used: &[u64],
) -> DensityRow {
    let live = u64::try_from(answers.times.len()).unwrap_or(u64::MAX);
    let there = live + answers.silent;
    let mut times = answers.times.clone();
    times.sort_unstable();
    let processes = now.processes.filter(|processes| processes.count > 0);
    let each = |of: fn(&crate::probe::reading::Processes) -> u64| {
        processes.map(|processes| of(&processes) / processes.count)
    };
    let taken = signed(before.available_bytes) - signed(now.available_bytes);
    let used: u64 = guest_used.iter().sum();
    DensityRow {
        live,
        silent: answers.silent,
        activity,
        vmm_pss_bytes: each(|p| p.vmm_pss),
        pss_bytes: each(|p| p.pss),
        private_dirty_bytes: each(|p| p.private_dirty),
        cgroup_bytes: each(|p| p.cgroup).filter(|bytes| *bytes > 0),
        available_delta_bytes: (there > 0).then(|| taken / signed(there)),
        guest_used_bytes: (!guest_used.is_empty())
            .then(|| used / u64::try_from(guest_used.len()).unwrap_or(1)),
        answer_p50_ns: times.get(times.len().saturating_sub(1) / 2).copied(),
        answer_max_ns: times.last().copied(),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A row for a terminal.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
pub fn line(row: &DensityRow) -> String {
    let mib = |bytes: Option<u64>| {
        bytes.map_or_else(
            || "–".to_owned(),
            |b| format!("{:.2}", b as f64 / f64::from(1 << 20)),
        )
    };
    let delta = row.available_delta_bytes.map_or_else(
        || "–".to_owned(),
        |b| format!("{:.2}", b as f64 / f64::from(1 << 20)),
    );
    let mut out = format!(
        "{:>5} live  MiB each: available {delta:>7}  PSS {:>7}  private dirty {:>7}  VMM {:>6}  cgroup {:>7}  guest {:>7}",
        row.live,
        mib(row.pss_bytes),
        mib(row.private_dirty_bytes),
        mib(row.vmm_pss_bytes),
        mib(row.cgroup_bytes),
        mib(row.guest_used_bytes),
    );
    if let (Some(p50), Some(max)) = (row.answer_p50_ns, row.answer_max_ns) {
        let _ = write!(out, "  answer P50 {} max {} ms", ms(p50), ms(max));
    }
    if row.silent > 0 {
        let _ = write!(out, "  {} silent", row.silent);
    }
    if let Activity::After(what) = &row.activity {
        let _ = write!(out, "  after {what}");
    }
    out
}

#[cfg(test)]
mod tests {
    use reports::probe::machine;

    use super::*;
    use crate::probe::reading::Processes;

    #[test]
    fn figures_are_for_one_sandbox() {
        let reading = |available: u64, processes| Reading {
            machine: machine(),
            available_bytes: available << 20,
            processes,
            counts: Default::default(),
        };
        let processes = Processes {
            count: 5,
            pss: 50 << 20,
            private_dirty: 40 << 20,
            vmm_pss: 5 << 20,
            cgroup: 0,
        };
        let answers = Answers {
            times: vec![3_000_000, 1_000_000, 2_000_000],
            silent: 1,
        };
        let row = row(
            &reading(1000, None),
            &reading(960, Some(processes)),
            &answers,
            Activity::Idle,
            &[64 << 20, 32 << 20],
        );
        insta::assert_snapshot!(line(&row), @"    3 live  MiB each: available   10.00  PSS   10.00  private dirty    8.00  VMM   1.00  cgroup       –  guest   48.00  answer P50 2.0 max 3.0 ms  1 silent");
        assert_eq!(row.cgroup_bytes, None);
    }
}
