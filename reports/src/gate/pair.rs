//! Which series of two runs belong together, and their numbers by round. Pure.
//!
//! ```text
//!  same run        baseline and new carry one run's name       log median by round, rounds in pairs
//!  reference       both have series with side=a and side=b     log (median b / median a) by round
//!  across runs     asked for, on one machine                   log median by round
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::judge::{Measure, Sides};
use crate::model::load::{Clock, Series, Unit};
use crate::model::{Load, Machine, Report, Sample};
use crate::stats::{count, float};

/// A run: report and raw samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The report.
    pub report: Report<Load>,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Metric, clock and conditions.
    pub title: String,
    /// What is compared: `time`, `rate`, `size` or `failures`.
    pub what: &'static str,
    /// Its numbers.
    pub sides: Sides,
}

/// Why two runs are not compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// Two runs without reference sides.
    #[error(
        "these are two runs ({0} and {1}) without a reference side: their times differ by the machine's mood alone. Measure both in one run, taking turns, or give --across-runs"
    )]
    TwoRuns(String, String),
    /// Two machines.
    #[error("the runs are of different machines ({0})")]
    Machines(String),
    /// The baseline has nothing to compare.
    #[error("the baseline has no series with samples")]
    Empty,
}

/// The condition that names a side.
const SIDE: &str = "side";

/// A series without its side: what belongs together has the same.
type Key = (String, Option<Clock>, BTreeMap<String, String>);

/// Failures and medians of one series by round.
#[derive(Debug, Clone, Default)]
struct Rounds(BTreeMap<u32, Vec<Option<u64>>>);

impl Rounds {
    fn medians(&self) -> BTreeMap<u32, f64> {
        let median = |values: &Vec<Option<u64>>| {
            let mut ok: Vec<u64> = values.iter().copied().flatten().collect();
            ok.sort_unstable();
            // A zero cannot be measured; one keeps the logarithm finite.
            ok.get(ok.len().saturating_sub(1) / 2)
                .map(|ns| float((*ns).max(1)).ln())
        };
        let all = self.0.iter();
        all.filter_map(|(round, values)| Some((*round, median(values)?)))
            .collect()
    }

    fn failures(&self) -> BTreeMap<u32, f64> {
        let share = |values: &Vec<Option<u64>>| {
            let failed = values.iter().filter(|value| value.is_none()).count();
            count(failed) / count(values.len().max(1))
        };
        self.0
            .iter()
            .map(|(round, values)| (*round, share(values)))
            .collect()
    }
}

/// All comparisons of a baseline with a new run.
///
/// # Errors
/// See [`PairError`].
pub fn pairs(base: &Run, new: &Run, across_runs: bool) -> Result<Vec<Pair>, PairError> {
    let same_run = base.report.run == new.report.run;
    let (old, fresh) = (sorted(base), sorted(new));
    let keys: BTreeSet<&Key> = old.keys().collect();
    let referred = keys.iter().any(|key| {
        let sides = &old[*key];
        sides.contains_key("a") && sides.contains_key("b")
    });
    if !same_run && !referred {
        if !across_runs {
            return Err(PairError::TwoRuns(
                base.report.run.clone(),
                new.report.run.clone(),
            ));
        }
        same_machine(
            base.report.environment.host.as_ref(),
            new.report.environment.host.as_ref(),
        )?;
    }
    let nothing = BTreeMap::new();
    let mut pairs = Vec::new();
    for key in keys {
        let (before, after) = (&old[key], fresh.get(key).unwrap_or(&nothing));
        let title = title(key);
        if same_run || !referred {
            for (side, (unit, rounds)) in before {
                let empty = (*unit, Rounds::default());
                let (_, other) = after.get(side).unwrap_or(&empty);
                pairs.extend(compared(&title, *unit, rounds, other, same_run));
            }
        } else if let (Some((unit, a)), Some((_, b))) = (before.get("a"), before.get("b")) {
            let empty = (*unit, Rounds::default());
            let (new_a, new_b) = (
                after.get("a").unwrap_or(&empty),
                after.get("b").unwrap_or(&empty),
            );
            pairs.push(referred_pair(&title, *unit, (a, b), (&new_a.1, &new_b.1)));
        }
    }
    if pairs.iter().all(|pair| pair.sides.base.is_empty()) {
        return Err(PairError::Empty);
    }
    Ok(pairs)
}

type Sorted = BTreeMap<Key, BTreeMap<String, (Unit, Rounds)>>;

/// Samples by series and side. Dropped ones count as failures: nobody was served.
fn sorted(run: &Run) -> Sorted {
    let mut by_name: BTreeMap<&str, Rounds> = BTreeMap::new();
    for sample in &run.samples {
        let rounds = by_name.entry(sample.series.as_str()).or_default();
        rounds.0.entry(sample.round).or_default().push(sample.value);
    }
    let mut sorted = Sorted::new();
    for series in &run.report.body.series {
        let rounds = by_name
            .get(series.name.as_str())
            .cloned()
            .unwrap_or_default();
        let (key, side) = key(series);
        sorted
            .entry(key)
            .or_default()
            .insert(side, (series.unit, rounds));
    }
    sorted
}

fn key(series: &Series) -> (Key, String) {
    let mut dimensions = series.dimensions.clone();
    let side = dimensions
        .remove(SIDE)
        .unwrap_or_default()
        .to_ascii_lowercase();
    ((series.metric.clone(), series.clock, dimensions), side)
}

fn title((metric, clock, dimensions): &Key) -> String {
    let clock = clock.map(|clock| clock.name().to_owned());
    let dimensions = dimensions
        .iter()
        .map(|(name, value)| format!("{name} {value}"));
    let parts: Vec<String> = [metric.clone()]
        .into_iter()
        .chain(clock)
        .chain(dimensions)
        .collect();
    parts.join(", ")
}

fn what(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "time",
        Unit::Bytes => "size",
        Unit::BytesPerSecond => "rate",
    }
}

/// More is worse, except for rates.
fn worse(unit: Unit, logarithm: f64) -> f64 {
    match unit {
        Unit::Nanoseconds | Unit::Bytes => logarithm,
        Unit::BytesPerSecond => -logarithm,
    }
}

/// Times and failures of one series on both sides.
fn compared(title: &str, unit: Unit, base: &Rounds, new: &Rounds, paired: bool) -> [Pair; 2] {
    let line = |what, measure, base: BTreeMap<u32, f64>, new: BTreeMap<u32, f64>| {
        let both = |round: &u32| !paired || (base.contains_key(round) && new.contains_key(round));
        let side = |all: &BTreeMap<u32, f64>| -> Vec<f64> {
            let kept = all.iter().filter(|(round, _)| both(round));
            kept.map(|(_, value)| *value).collect()
        };
        Pair {
            title: title.to_owned(),
            what,
            sides: Sides {
                base: if new.is_empty() {
                    base.values().copied().collect()
                } else {
                    side(&base)
                },
                new: side(&new),
                paired,
                measure,
            },
        }
    };
    let turned = |rounds: &Rounds| {
        let medians = rounds.medians().into_iter();
        medians
            .map(|(round, value)| (round, worse(unit, value)))
            .collect()
    };
    [
        line(what(unit), Measure::Logarithm, turned(base), turned(new)),
        line("failures", Measure::Share, base.failures(), new.failures()),
    ]
}

/// B against A by round, of two runs.
fn referred_pair(
    title: &str,
    unit: Unit,
    base: (&Rounds, &Rounds),
    new: (&Rounds, &Rounds),
) -> Pair {
    let ratios = |(a, b): (&Rounds, &Rounds)| {
        let (a, b) = (a.medians(), b.medians());
        let both = b
            .iter()
            .filter_map(|(round, b)| Some(worse(unit, b - a.get(round)?)));
        both.collect::<Vec<f64>>()
    };
    Pair {
        title: format!("{title}, b / a"),
        what: what(unit),
        sides: Sides {
            base: ratios(base),
            new: ratios(new),
            paired: false,
            measure: Measure::Logarithm,
        },
    }
}

fn same_machine(base: Option<&Machine>, new: Option<&Machine>) -> Result<(), PairError> {
    let (Some(base), Some(new)) = (base, new) else {
        return Err(PairError::Machines("one of them is not known".to_owned()));
    };
    let differs = [
        ("processor", base.cpu != new.cpu || base.cpus != new.cpus),
        ("kernel", base.kernel != new.kernel),
        ("virtualization", base.virtualization != new.virtualization),
        ("memory", base.memory_bytes != new.memory_bytes),
        ("file system", base.file_system != new.file_system),
        ("state of caches", base.cache_state != new.cache_state),
    ];
    let named: Vec<&str> = differs
        .iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| *name)
        .collect();
    if named.is_empty() {
        Ok(())
    } else {
        Err(PairError::Machines(named.join(", ")))
    }
}
