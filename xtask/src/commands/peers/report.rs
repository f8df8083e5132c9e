//! A summary as a text for people: Markdown tables, milliseconds and MiB.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::plan::Measure;
use super::summary::{Case, MemoryRow, Row, Summary, Versus, mib, ms};
use reports::stats::quantile::Estimate;
use reports::stats::ratio::{RESAMPLES, Ratio, SEED};

/// Marks a figure that its samples do not support.
const UNSUPPORTED: &str = "*";

/// A summary and where it comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `direct` or `lab`.
    pub place: String,
    /// The source tree's revision, with `-dirty` when it is not exactly that.
    pub revision: String,
    /// What to type to get it again.
    pub command: String,
    /// The figures.
    pub summary: Summary,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            revision,
            command,
            summary,
        } = self;
        let host = &summary.environment;
        writeln!(f, "# microvm and Firecracker, side by side\n")?;
        writeln!(f, "- host: {place}, {}", host.kernel)?;
        writeln!(
            f,
            "- {} × {}, {} MiB, files on {}",
            host.processors, host.processor, host.memory_mib, host.file_system
        )?;
        for (program, version) in &host.versions {
            writeln!(f, "- {program}: {version}")?;
        }
        writeln!(f, "- revision {revision}; `{command}`")?;
        if let Some(c) = summary.calibration {
            writeln!(
                f,
                "- fixed native work before each of {} blocks: {:.1} ms, {:.1} to {:.1}",
                c.n,
                ms(c.median),
                ms(c.least),
                ms(c.most)
            )?;
        }
        self.times(f)?;
        self.ratios(f)?;
        self.memory(f)?;
        self.stages(f)?;
        self.failures(f)
    }
}

impl Report {
    fn times(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Times, ms (95 % interval)\n")?;
        writeln!(
            f,
            "| what | MiB | at once | arm | n | failed | P50 | P95 | P99 | MiB written |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.summary.rows {
            let Row { case, arm, n, .. } = row;
            let failed: usize = row.failed.values().sum();
            write!(f, "{} | {} | {n} | {failed} |", cells(case), arm.name())?;
            for estimate in &row.estimates {
                write!(f, " {} |", interval(estimate))?;
            }
            for _ in row.estimates.len()..3 {
                write!(f, " – |")?;
            }
            match row.bytes {
                Some(bytes) => writeln!(f, " {:.1} |", mib(bytes))?,
                None => writeln!(f, " |")?,
            }
        }
        writeln!(
            f,
            "\nValues are order statistics. {UNSUPPORTED}: not supported by n. Prepared: what the daemon's pool does ahead for \
             each process is not in its times; cold has all of it. A copy of the peer's writable disk is made ahead too."
        )
    }

    fn ratios(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Ours / Firecracker (95 % interval)\n")?;
        writeln!(
            f,
            "| what | MiB | at once | ours | rounds | P50 | P95 | P99 | p |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for Versus {
            case,
            arm,
            comparison,
        } in &self.summary.versus
        {
            write!(
                f,
                "{} | {} | {} |",
                cells(case),
                arm.name(),
                comparison.rounds
            )?;
            for ratio in &comparison.ratios {
                write!(f, " {} |", range(ratio))?;
            }
            writeln!(f, " {:.4} |", comparison.p_value)?;
        }
        writeln!(
            f,
            "\nBelow 1 ours is faster. Intervals: bootstrap of rounds; p: permutation test of the median; {RESAMPLES} \
             resamples each, seed {SEED:#x}. {UNSUPPORTED}: not supported by n, or fewer than eight rounds. Rollback \
             stands against a new process from the snapshot."
        )
    }

    fn memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.summary.memory.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n## Memory of each idle machine, MiB\n")?;
        writeln!(
            f,
            "| MiB | machines | arm | VMM PSS | VMM private | PSS | private | MemAvailable |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for row in &self.summary.memory {
            let MemoryRow { mean, .. } = row;
            writeln!(
                f,
                "| {} | {} × {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
                row.memory_mib,
                row.blocks,
                row.machines,
                row.arm.name(),
                mib(mean.vmm_pss),
                mib(mean.vmm_private),
                mib(mean.pss),
                mib(mean.private),
                signed(row.available),
            )?;
        }
        writeln!(
            f,
            "\nMeans. VMM: all but guest memory. MemAvailable: all that a machine has of its own, its writable disk among it, \
             as everything lies in memory."
        )
    }

    fn stages(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Where the time is: medians of the stages, ms\n")?;
        writeln!(f, "| what | MiB | at once | arm | stages |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        for row in &self.summary.rows {
            if row.stages.is_empty() {
                continue;
            }
            let stages: Vec<String> = row
                .stages
                .iter()
                .map(|(name, ns)| format!("{name} {:.1}", ms(*ns)))
                .collect();
            writeln!(
                f,
                "{} | {} | {} |",
                cells(&row.case),
                row.arm.name(),
                stages.join(" · ")
            )?;
        }
        writeln!(
            f,
            "\n`vmm:` is told by the process and lies within the rest."
        )
    }

    fn failures(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rows = &self.summary.rows;
        let retries: u32 = rows.iter().map(|row| row.retries).sum();
        if retries > 0 {
            writeln!(
                f,
                "\n{retries} connections to agents came to nothing before one was answered; the times above include them."
            )?;
        }
        let again: u32 = rows.iter().map(|row| row.check_retries).sum();
        if again > 0 {
            writeln!(
                f,
                "\n{again} came to nothing when machines were asked once more, which is not timed."
            )?;
        }
        for row in rows {
            for (why, count) in &row.failed {
                let Case { measure, .. } = row.case;
                writeln!(
                    f,
                    "\n{}, {}: {count} × {why}",
                    measure.name(),
                    row.arm.name()
                )?;
            }
        }
        Ok(())
    }
}

fn cells(case: &Case) -> String {
    let at_once = match case.measure {
        Measure::Restore => case.concurrency.to_string(),
        _ => "1".to_owned(),
    };
    format!(
        "| {} | {} | {at_once}",
        case.measure.name(),
        case.memory_mib
    )
}

fn mark(supported: bool) -> &'static str {
    if supported { "" } else { UNSUPPORTED }
}

fn interval(estimate: &Estimate) -> String {
    let end = |ns: Option<u64>| ns.map_or("?".to_owned(), |ns| format!("{:.1}", ms(ns)));
    format!(
        "{:.1}{} ({}–{})",
        ms(estimate.value),
        mark(estimate.supported),
        end(estimate.low),
        end(estimate.high)
    )
}

fn range(ratio: &Ratio) -> String {
    format!(
        "{:.3}{} ({:.3}–{:.3})",
        ratio.value,
        mark(ratio.supported),
        ratio.low,
        ratio.high
    )
}

fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{:.2}", mib(bytes.unsigned_abs()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::plan::{Arm, Slot};
    use super::super::record::{
        Block, Environment, Memory, Outcome, ProcessMemory, Record, Sample,
    };
    use super::super::summary::summarize;
    use super::*;

    pub(in super::super) fn records() -> Vec<Record> {
        let slot = |round, arm| Slot {
            memory_mib: 256,
            concurrency: 2,
            round,
            arm,
        };
        let mut records = vec![Record::Environment(Environment {
            processor: "a processor".into(),
            processors: 1,
            memory_mib: 8192,
            kernel: "Linux 6".into(),
            file_system: "tmpfs".into(),
            versions: vec![("microvm".into(), "microvm 1".into())],
        })];
        for round in 0..10 {
            for (arm, ns) in [(Arm::Firecracker, 100), (Arm::Prepared, 40)] {
                for index in 0..2 {
                    let ns = (ns + round as u64 + index) * 1_000_000;
                    let failed = round == 3 && index == 0 && arm == Arm::Firecracker;
                    let outcome = match failed {
                        true => Outcome::Failed("no answer".into()),
                        false => Outcome::Ns(ns),
                    };
                    records.push(Record::Sample(Sample {
                        measure: Measure::Restore,
                        slot: slot(round, arm),
                        outcome,
                        stages: vec![("spawn".into(), ns / 4), ("answer".into(), ns / 2)],
                        bytes: None,
                        retries: u32::from(round == 5),
                        check_retries: 0,
                    }));
                }
                records.push(Record::Block(Block {
                    measure: Measure::Restore,
                    slot: slot(round, arm),
                    calibration_ns: 5_000_000 + round as u64,
                    wall_ns: ns,
                    total_ns: ns,
                }));
            }
        }
        let process = ProcessMemory {
            pss: 4 << 20,
            private: 3 << 20,
            vmm_pss: 2 << 20,
            vmm_private: 1 << 20,
        };
        records.push(Record::Memory(Memory {
            slot: slot(0, Arm::Prepared),
            available_delta: -(3 << 20),
            processes: vec![process; 2],
        }));
        records
    }

    #[test]
    fn a_report_as_it_is_read() {
        let report = Report {
            place: "lab".into(),
            revision: "abc".into(),
            command: "cargo xtask peers firecracker --binary PATH".into(),
            summary: summarize(&records()),
        };
        insta::assert_snapshot!(report.to_string());
        let json = serde_json::to_value(&report).unwrap();
        let ratio = &json["summary"]["versus"][0]["comparison"]["ratios"][0];
        assert!(
            ratio["value"]
                .as_f64()
                .is_some_and(|value| (0.3..0.5).contains(&value))
        );
        assert_eq!(json["summary"]["rows"][0]["failed"]["no answer"], 1);
    }
}
