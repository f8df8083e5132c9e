//! One series as it grows.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use reports::model::load::{Arrival, Clock, Counts, Method, Series, Stage, Unit};
use reports::stats::quantile::Estimate;

use super::histogram::{self, empty};
use super::timeline::{Timeline, What};

/// Most kinds of failure that are told apart; the others are counted together.
const MAX_KINDS: usize = 64;
/// Most stages that are told apart.
const MAX_STAGES: usize = 128;
/// The first length of an interval.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is known of a series before its first reading.
#[derive(Debug, Clone)]
pub struct Heading {
    /// Name within the report, also of its files.
    pub name: String,
    /// What is measured.
    pub metric: String,
    /// The clock of a cold start.
    pub clock: Option<Clock>,
    /// Unit.
    pub unit: Unit,
    /// Conditions.
    pub dimensions: BTreeMap<String, String>,
    /// Name of the arrivals' model.
    pub model: String,
    /// Whether sends waited for answers.
    pub closed_loop: bool,
    /// Planned sends a second, where the model has one rate.
    pub offered_per_s: Option<f64>,
    /// Whether values are kept by round, for a comparison.
    pub keep_rounds: bool,
}

/// A series.
#[derive(Debug)]
pub struct Collector {
    /// What was known before.
    pub heading: Heading,
    /// Successes.
    pub values: Histogram<u64>,
    /// What happened when.
    pub timeline: Timeline,
    /// What became of the turns.
    pub counts: Counts,
    stages: Vec<(String, Histogram<u32>, u128)>,
    /// Values by round, where they are wanted.
    pub rounds: BTreeMap<u32, Vec<u64>>,
    sum: u128,
    /// Least and greatest success, to the nanosecond.
    range: Option<(u64, u64)>,
    first: Option<Duration>,
    last: Duration,
}

/// A turn in the eyes of one series.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// Its block.
    pub round: u32,
    /// When it was due.
    pub planned: Duration,
    /// When it was over.
    pub ended: Duration,
    /// Most at once.
    pub in_flight: u64,
    /// What the server told of it.
    pub stages: &'a [(String, u64)],
}

impl Collector {
    /// An empty one.
    #[must_use]
    pub fn new(heading: Heading) -> Self {
        Self {
            heading,
            values: empty(),
            timeline: Timeline::new(INTERVAL),
            counts: Counts::default(),
            stages: Vec::new(),
            rounds: BTreeMap::new(),
            sum: 0,
            range: None,
            first: None,
            last: Duration::ZERO,
        }
    }

    fn seen(&mut self, planned: Duration, ended: Duration) {
        self.counts.planned += 1;
        self.first = Some(self.first.map_or(planned, |first| first.min(planned)));
        self.last = self.last.max(ended);
    }

    /// A success.
    pub fn ok(&mut self, turn: Turn<'_>, value: u64) {
        self.seen(turn.planned, turn.ended);
        self.counts.sent += 1;
        self.counts.ok += 1;
        self.sum += u128::from(value);
        let (least, greatest) = self.range.unwrap_or((value, value));
        self.range = Some((least.min(value), greatest.max(value)));
        if self.heading.keep_rounds {
            self.rounds.entry(turn.round).or_default().push(value);
        }
        histogram::record(&mut self.values, value);
        self.timeline
            .count(turn.planned, What::Ok(value), turn.in_flight);
        for (name, nanos) in turn.stages {
            self.stage(name, *nanos);
        }
    }

    fn stage(&mut self, name: &str, nanos: u64) {
        let known = self.stages.iter().position(|(known, ..)| known == name);
        if known.is_none() && self.stages.len() < MAX_STAGES {
            self.stages.push((name.to_owned(), empty(), 0));
        }
        let index = known.unwrap_or(self.stages.len() - 1);
        if let Some((_, values, sum)) = self.stages.get_mut(index) {
            histogram::record(values, nanos);
            *sum += u128::from(nanos);
        }
    }

    /// A failure.
    pub fn failed(&mut self, turn: Turn<'_>, kind: &str) {
        self.seen(turn.planned, turn.ended);
        self.counts.sent += 1;
        let known = self.counts.failures.contains_key(kind);
        let kind = if known || self.counts.failures.len() < MAX_KINDS {
            kind
        } else {
            "other"
        };
        *self.counts.failures.entry(kind.to_owned()).or_default() += 1;
        self.timeline
            .count(turn.planned, What::Failed, turn.in_flight);
    }

    /// Not sent.
    pub fn dropped(&mut self, planned: Duration) {
        self.seen(planned, planned);
        self.counts.dropped += 1;
        self.timeline.count(planned, What::Dropped, 0);
    }

    /// Estimates; a histogram names the highest value that it takes for equal, which may lie beyond the greatest there was.
    fn quantiles(&self) -> Vec<Estimate> {
        let greatest = self.range.map_or(u64::MAX, |(_, greatest)| greatest);
        let within = |estimate: Estimate| Estimate {
            value: estimate.value.min(greatest),
            low: estimate.low.map(|low| low.min(greatest)),
            high: estimate.high.map(|high| high.min(greatest)),
            ..estimate
        };
        histogram::estimates(&self.values)
            .into_iter()
            .map(within)
            .collect()
    }

    /// As reports hold it; its files are named after it.
    #[must_use]
    pub fn series(&self, with_files: bool) -> Series {
        let wall = self.last.saturating_sub(self.first.unwrap_or_default());
        let ok = self.counts.ok;
        let achieved = if wall.is_zero() {
            0.0
        } else {
            float(ok) / wall.as_secs_f64()
        };
        let file = |suffix: &str| {
            let name = file_stem(&self.heading.name);
            (with_files && ok > 0).then(|| format!("{name}.{suffix}"))
        };
        Series {
            name: self.heading.name.clone(),
            metric: self.heading.metric.clone(),
            clock: self.heading.clock,
            unit: self.heading.unit,
            dimensions: self.heading.dimensions.clone(),
            arrival: Arrival {
                model: self.heading.model.clone(),
                closed_loop: self.heading.closed_loop,
                offered_per_s: self.heading.offered_per_s,
                achieved_per_s: achieved,
            },
            counts: self.counts.clone(),
            wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
            method: Method::Hdr3,
            quantiles: self.quantiles(),
            min: self.range.map(|(least, _)| least),
            max: self.range.map(|(_, greatest)| greatest),
            mean: self.range.map(|_| mean(self.sum, ok)),
            spectrum: histogram::spectrum(&self.values),
            timeline: self.timeline.intervals(),
            stages: self.stages.iter().map(|stage| told(stage, ok)).collect(),
            hgrm: file("hgrm"),
            hlog: file("hlog"),
        }
    }
}

fn told((name, values, sum): &(String, Histogram<u32>, u128), ok: u64) -> Stage {
    Stage {
        name: name.clone(),
        count: values.len(),
        mean_ns: mean(*sum, ok),
        p50_ns: values.value_at_quantile(0.5),
        p95_ns: values.value_at_quantile(0.95),
    }
}

fn mean(sum: u128, count: u64) -> u64 {
    let count = u128::from(count.max(1));
    u64::try_from((sum + count / 2) / count).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

/// A name as a file takes it.
#[must_use]
pub fn file_stem(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading() -> Heading {
        Heading {
            name: "first exec/c=1".to_owned(),
            metric: "cold_start".to_owned(),
            clock: Some(Clock::FirstExec),
            unit: Unit::Nanoseconds,
            dimensions: BTreeMap::new(),
            model: "constant".to_owned(),
            closed_loop: false,
            offered_per_s: Some(2.0),
            keep_rounds: true,
        }
    }

    fn turn(second: u64, stages: &[(String, u64)]) -> Turn<'_> {
        Turn {
            round: 0,
            planned: Duration::from_secs(second),
            ended: Duration::from_secs(second + 1),
            in_flight: 1,
            stages,
        }
    }

    #[test]
    fn failures_stand_beside_latency_never_inside() {
        let mut collector = Collector::new(heading());
        let stages = [("restore".to_owned(), 10_000), ("other".to_owned(), 5_000)];
        collector.ok(turn(0, &stages), 20_000);
        collector.ok(turn(1, &[]), 40_000);
        collector.failed(turn(2, &[]), "timeout");
        collector.dropped(Duration::from_secs(3));
        let series = collector.series(true);
        insta::assert_json_snapshot!(series);
        // Mean 30 µs, of which the server told 7.5 on average.
        assert_eq!(series.unexplained_ns(), Some(22_500));
    }

    #[test]
    fn kinds_and_stages_of_a_hostile_server_are_bounded() {
        let mut collector = Collector::new(heading());
        for n in 0..1000u64 {
            collector.failed(turn(0, &[]), &format!("http {n}"));
            collector.ok(turn(0, &[(format!("s{n}"), n)]), 1);
        }
        assert!(collector.counts.failures.len() <= MAX_KINDS + 1);
        assert_eq!(collector.counts.failed(), 1000);
        assert!(collector.series(false).stages.len() <= MAX_STAGES);
    }
}
