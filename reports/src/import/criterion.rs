//! Criterion's raw samples as series of a load report.
//!
//! ```text
//!  target/criterion/GROUP/FUNCTION[/VALUE]/new/benchmark.json   group_id, function_id, value_str
//!                                             /sample.json      iters: [n, …]  times: [nanoseconds of n iterations, …]
//!
//!  sample ─► time of one iteration ─► × batch, a power of ten ─► one value of the series, one round
//! ```
//!
//! Values are whole nanoseconds, which is coarse for what takes twelve of them: so a value is the time of a *batch* of
//! iterations, the smallest power of ten whose median takes a millisecond or more. The batch is a condition of the series:
//! figures of other batches are not the same figure.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;

use crate::model::load::{Arrival, Counts, Method, Series, SpectrumPoint, Unit};
use crate::model::{Environment, Load, Report, Sample, Tag, Target, Tool, Version};
use crate::probe;
use crate::stats::quantile::{Quantile, estimate, mean};
use crate::stats::{self, rounded};

/// Folders within folders that are looked into: group, function, value, `new`.
const DEPTH: usize = 6;
/// Longest file that is read: a sample takes some forty bytes.
const FILE_LIMIT: u64 = 64 << 20;
/// A batch takes this long or longer, in nanoseconds.
const BATCH: f64 = 1e6;
/// Largest batch: beyond it there is nothing that takes any time.
const LARGEST: f64 = 1e9;
/// Points of a spectrum.
const POINTS: usize = 40;

/// Why a folder cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what criterion writes.
    #[error("{}: {source}", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A file has no samples that can be used.
    #[error("{}: its samples are not pairs of a number of iterations and a time", .0.display())]
    Samples(PathBuf),
    /// Nothing there.
    #[error("{}: no benchmark has been run there; `cargo bench` writes to target/criterion", .0.display())]
    Empty(PathBuf),
}

/// What is imported: a report, and its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The report.
    pub report: Report<Load>,
    /// Its samples.
    pub samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Benchmark {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
}

#[derive(Deserialize)]
struct Times {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// Reads a folder of criterion's.
///
/// # Errors
/// See [`ImportError`].
pub fn import(folder: &Path, command: &[String]) -> Result<Imported, ImportError> {
    let mut found = Vec::new();
    find(folder, DEPTH, &mut found)?;
    found.sort();
    let (mut series, mut samples, mut instants) = (Vec::new(), Vec::new(), Vec::new());
    for dir in &found {
        let (one, of_it, at) = benchmark(dir)?;
        series.push(one);
        samples.extend(of_it);
        instants.push(at);
    }
    let (Some(first), Some(last)) = (instants.iter().min(), instants.iter().max()) else {
        return Err(ImportError::Empty(folder.to_owned()));
    };
    let batches = series.iter().map(|one| {
        let iterations = one.dimensions.get("iterations").map_or("", String::as_str);
        format!("{} {iterations}", one.name)
    });
    let batches = format!(
        "Iterations in a value: {}.",
        Vec::from_iter(batches).join(" · ")
    );
    let machine = probe::client();
    let report = Report {
        schema: Version,
        kind: Tag::default(),
        tool: Tool::this("reports", env!("CARGO_PKG_VERSION")),
        run: format!("criterion-{}", first.as_second()),
        command: command.to_vec(),
        seed: None,
        started_at: *first,
        ended_at: *last,
        interrupted: false,
        target: Target {
            name: Some("benchmarks".to_owned()),
            url: "none".to_owned(),
            template: "none".to_owned(),
            versions: BTreeMap::new(),
        },
        environment: Environment {
            client: Some(machine.clone()),
            host: Some(machine),
        },
        body: Load {
            scenario: "bench".to_owned(),
            series,
            comparisons: Vec::new(),
            density: None,
            leaks: None,
            client: None,
            notes: vec![
                batches,
                "A value is the time of a batch of iterations; the batch is a condition of its series. Criterion takes its \
                 samples one after the other, without a pause."
                    .to_owned(),
            ],
        },
    };
    Ok(Imported { report, samples })
}

/// Folders named `new` that hold samples.
fn find(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), ImportError> {
    let failed = |source| ImportError::Io {
        path: dir.to_owned(),
        source,
    };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Links are not followed: a folder that holds itself would be read for ever.
        if !entry.file_type().map_err(failed)?.is_dir() {
            continue;
        }
        let path = entry.path();
        if entry.file_name() == "new" && path.join("sample.json").is_file() {
            found.push(path);
        } else if depth > 0 {
            find(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

fn benchmark(dir: &Path) -> Result<(Series, Vec<Sample>, Timestamp), ImportError> {
    let path = dir.join("sample.json");
    let about: Benchmark = read(&dir.join("benchmark.json"))?;
    let times: Times = read(&path)?;
    let at = fs::metadata(&path)
        .and_then(|data| data.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    let Some(batched) = batched(&times.iters, &times.times) else {
        return Err(ImportError::Samples(path));
    };
    let name = [
        Some(about.group_id.clone()),
        about.function_id,
        about.value_str.clone(),
    ];
    let name = Vec::from_iter(name.into_iter().flatten()).join("/");
    let total = times.times.iter().sum();
    let series = series(name, &about.group_id, about.value_str, &batched, total);
    let samples = samples(&series.name, &batched);
    Ok((series, samples, at))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ImportError> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut bytes))
        .map_err(|source| ImportError::Io {
            path: path.to_owned(),
            source,
        })?;
    serde_json::from_slice(&bytes).map_err(|source| ImportError::Json {
        path: path.to_owned(),
        source,
    })
}

/// Times of batches, in the order of measuring.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Batched {
    iterations: u64,
    nanos: Vec<u64>,
}

/// `None` where the samples are none, or no samples.
fn batched(iters: &[f64], times: &[f64]) -> Option<Batched> {
    let fine = |value: &f64| value.is_finite() && *value >= 0.0;
    if iters.len() != times.len() || !times.iter().all(fine) || !iters.iter().all(|n| *n >= 1.0) {
        return None;
    }
    let each = Vec::from_iter(times.iter().zip(iters).map(|(time, n)| time / n));
    let mut sorted = each.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = *sorted.get(sorted.len() / 2)?;
    let mut batch = 1.0;
    while median * batch < BATCH && batch < LARGEST {
        batch *= 10.0;
    }
    Some(Batched {
        iterations: rounded(batch),
        nanos: each.iter().map(|time| rounded(time * batch)).collect(),
    })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn series(
    name: String,
    group: &str,
    value: Option<String>,
    batched: &Batched,
    total_ns: f64,
) -> Series {
    let mut sorted = batched.nanos.clone();
    sorted.sort_unstable();
    let n = sorted.len();
    let iterations = batched.iterations.to_string();
    let mut dimensions = BTreeMap::from([("iterations".to_owned(), iterations)]);
    dimensions.extend(value.map(|value| ("parameter".to_owned(), value)));
    let spectrum = (1..=POINTS.min(n)).filter_map(|point| {
        let rank = (point * n).div_ceil(POINTS.min(n));
        Some(SpectrumPoint {
            share: stats::count(rank) / stats::count(n),
            value: *sorted.get(rank - 1)?,
            count: count(rank),
        })
    });
    Series {
        name,
        metric: group.to_owned(),
        clock: None,
        unit: Unit::Nanoseconds,
        dimensions,
        arrival: Arrival {
            model: "closed".to_owned(),
            closed_loop: true,
            offered_per_s: None,
            achieved_per_s: stats::count(n) * 1e9 / total_ns.max(1.0),
        },
        counts: Counts {
            planned: count(n),
            sent: count(n),
            ok: count(n),
            ..Counts::default()
        },
        wall_ns: rounded(total_ns),
        method: Method::NearestRank,
        quantiles: Quantile::SHOWN
            .iter()
            .filter_map(|quantile| estimate(&sorted, *quantile))
            .collect(),
        min: sorted.first().copied(),
        max: sorted.last().copied(),
        mean: (n > 0).then(|| rounded(mean(&sorted))),
        spectrum: spectrum.collect(),
        timeline: Vec::new(),
        stages: Vec::new(),
        hgrm: None,
        hlog: None,
    }
}

fn samples(series: &str, batched: &Batched) -> Vec<Sample> {
    let mut at = 0_u64;
    let numbered = batched.nanos.iter().zip(0_u32..);
    let sample = |(nanos, round): (&u64, u32)| {
        let planned = at;
        at = at.saturating_add(*nanos);
        Sample {
            series: series.to_owned(),
            round,
            planned_ns: planned,
            sent_ns: Some(planned),
            value: Some(*nanos),
            failure: None,
            sandbox: None,
            stages_ns: BTreeMap::new(),
        }
    };
    numbered.map(sample).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(dir: &Path, name: &str, about: &str, sample: &str) {
        let new = dir.join(name).join("new");
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("benchmark.json"), about).unwrap();
        fs::write(new.join("sample.json"), sample).unwrap();
    }

    const ABOUT: &str = r#"{"group_id":"policy","function_id":"compile","value_str":"32","throughput":null,
        "full_id":"policy/compile/32","directory_name":"policy/compile/32","title":"policy/compile/32"}"#;

    #[test]
    fn a_fast_benchmark_keeps_its_digits() {
        let dir = tempfile::tempdir().unwrap();
        // 12.34 ns an iteration, and half as much again.
        let sample = r#"{"sampling_mode":"Linear","iters":[100.0,200.0,100.0],"times":[1234.0,2468.0,1851.0]}"#;
        written(dir.path(), "policy/compile/32", ABOUT, sample);
        // Criterion keeps other folders beside `new`.
        fs::create_dir_all(dir.path().join("policy/compile/32/base")).unwrap();
        let imported = import(dir.path(), &["cargo".to_owned()]).unwrap();
        let [series] = &imported.report.body.series[..] else {
            panic!("{:?}", imported.report.body.series);
        };
        assert_eq!(series.name, "policy/compile/32");
        assert_eq!(series.dimensions["iterations"], "100000");
        assert_eq!(series.dimensions["parameter"], "32");
        let values = Vec::from_iter(imported.samples.iter().filter_map(|sample| sample.value));
        assert_eq!(values, [1_234_000, 1_234_000, 1_851_000]);
        assert_eq!((series.counts.ok, series.max), (3, Some(1_851_000)));
        assert!(series.quantiles.iter().all(|quantile| !quantile.supported));
    }

    #[test]
    fn a_folder_without_benchmarks_and_a_damaged_one_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let told = |dir: &Path| import(dir, &[]).unwrap_err().to_string();
        assert!(told(dir.path()).contains("no benchmark has been run there"));
        assert!(told(&dir.path().join("none")).contains("No such file"));
        written(dir.path(), "a", ABOUT, r#"{"iters":[1.0],"times":[]}"#);
        assert!(told(dir.path()).contains("its samples are not pairs"));
        written(dir.path(), "a", ABOUT, "{");
        assert!(told(dir.path()).contains("sample.json: EOF"));
    }

    proptest! {
        #[test]
        fn batches_take_a_millisecond_or_are_the_largest(
            pairs in prop::collection::vec((1.0..1e9_f64, 0.0..1e15_f64), 1..60),
        ) {
            let (iters, times): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let batched = batched(&iters, &times).unwrap();
            let mut sorted = batched.nanos.clone();
            sorted.sort_unstable();
            let median = sorted[sorted.len() / 2];
            prop_assert!(median >= 999_999 || batched.iterations == 1_000_000_000);
            prop_assert!(batched.iterations == 1 || median < 10_000_001);
        }

        #[test]
        fn whatever_the_numbers_are_nothing_panics(
            iters in prop::collection::vec(any::<f64>(), 0..8), times in prop::collection::vec(any::<f64>(), 0..8),
        ) {
            let _ = batched(&iters, &times);
        }
    }
}
