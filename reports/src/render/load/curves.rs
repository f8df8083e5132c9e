//! Percentile curves, curves over concurrency or rate, and what happened when.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::series::conditions;
use crate::model::load::{Clock, Interval, Series, Unit};
use crate::render::chart::{
    Axis, Column, DROPPED, FAILED, Line, OK, Plot, Scale, class, colour, figure,
};
use crate::render::text::short;
use crate::stats::quantile::Quantile;
use crate::stats::{count, float};

/// Lines of one chart; more cannot be told apart.
const LINES: usize = 8;
/// Series whose timeline is drawn.
const TIMELINES: usize = 24;
/// Intervals without a success over which a line over time is still drawn; at low rates one or two are empty by chance.
const GAP: f64 = 4.0;
/// Points of one line.
const POINTS: usize = 4_000;
/// Values that span more than this have a logarithmic axis.
const SPAN: f64 = 30.0;
/// A quantile with fewer samples beyond it is faint.
const BEYOND: f64 = 10.0;

/// A value in the unit of the charts: ms or MiB.
fn shown(unit: Unit, value: u64) -> f64 {
    match unit {
        Unit::Nanoseconds => float(value) / 1e6,
        Unit::Bytes | Unit::BytesPerSecond => float(value) / f64::from(1 << 20),
    }
}

fn axis_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ms",
        Unit::Bytes => "MiB",
        Unit::BytesPerSecond => "MiB/s",
    }
}

/// Series that may stand in one chart: one metric, one unit.
fn groups(all: &[Series]) -> BTreeMap<(&str, &'static str), Vec<&Series>> {
    let mut groups: BTreeMap<_, Vec<&Series>> = BTreeMap::new();
    for series in all {
        groups
            .entry((series.metric.as_str(), axis_name(series.unit)))
            .or_default()
            .push(series);
    }
    groups
}

/// How far a share is to the right of a percentile chart: one step for each further nine.
fn nines(share: f64) -> f64 {
    -(1.0 - share).max(1e-9).log10()
}

/// Percentile curves: the share on an axis by logarithm, so that tails are seen.
pub(super) fn spectra(all: &[Series]) -> Markup {
    html! {
        @for ((metric, unit), group) in groups(all) {
            @for (part, group) in group.iter().filter(|one| one.spectrum.len() > 1).collect::<Vec<_>>().chunks(LINES).enumerate() {
                @let legend: Vec<(String, &str)> = group.iter().enumerate().map(|(index, series)| (class(index), series.name.as_str())).collect();
                div.panel {
                    @if part == 0 { h3 { "Percentiles of " (short(metric)) } }
                    (figure(&spectrum(unit, group), &format!("{metric}: up to which value, for which share of successes. Faint where fewer than ten samples lie beyond."), &legend))
                }
            }
        }
    }
}

fn spectrum(unit: &'static str, group: &[&&Series]) -> Plot {
    let lines: Vec<Line> = group
        .iter()
        .enumerate()
        .map(|(index, series)| Line {
            points: series
                .spectrum
                .iter()
                .filter(|point| point.share < 1.0)
                .take(POINTS)
                .map(|point| (nines(point.share), shown(series.unit, point.value)))
                .collect(),
            colour: colour(index),
            faint_from: Some(nines(1.0 - BEYOND / float(series.counts.ok).max(1.0))),
            dots: false,
            open: Vec::new(),
            gap: None,
        })
        .collect();
    let furthest = lines
        .iter()
        .filter_map(|line| Some(line.points.last()?.0))
        .fold(1.0, f64::max);
    let marks: Vec<(f64, String)> = ["90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]
        .iter()
        .enumerate()
        .map(|(index, text)| (count(index + 1), (*text).to_owned()))
        .chain([(nines(0.5), "50 %".to_owned())])
        .filter(|(at, _)| *at <= furthest + 0.05)
        .collect();
    let values = lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(_, value)| *value));
    let y = Axis::wide(unit, values, SPAN, 6);
    Plot {
        x: Axis {
            name: "percentile",
            scale: Scale::Linear,
            low: 0.0,
            high: furthest,
            marks,
        },
        y,
        lines,
        columns: Vec::new(),
        tall: 1.1,
        half: false,
    }
}

/// Quantiles over concurrency or rate, where series differ in nothing else.
pub(super) fn sweeps(all: &[Series]) -> Markup {
    html! {
        @for axis in ["concurrency", "rate"] {
            @for sweep in found(all, axis) {
                div.panel {
                    h3 { (short(sweep.0.as_str())) " by " (axis) }
                    (figure(&swept(axis, &sweep.1), "Quantiles of successes. Open dots: too few samples for that quantile.", &[
                        (class(0), "P50"), (class(1), "P95"), (class(2), "P99"),
                    ]))
                }
            }
        }
    }
}

/// A title, and series by the value that they differ in.
type Sweep<'a> = (String, Vec<(f64, &'a Series)>);
/// What series of one sweep have in common: metric, clock and the other conditions.
type Common<'a> = (String, Option<Clock>, Vec<(&'a str, &'a str)>);

fn found<'a>(all: &'a [Series], axis: &str) -> Vec<Sweep<'a>> {
    let mut sweeps: BTreeMap<Common<'_>, Vec<(f64, &Series)>> = BTreeMap::new();
    for series in all {
        let at = series
            .dimensions
            .get(axis)
            .and_then(|value| value.parse::<f64>().ok());
        let Some(at) = at.filter(|at| at.is_finite() && *at > 0.0) else {
            continue;
        };
        let others = series.dimensions.iter().filter(|(name, _)| *name != axis);
        let others = others
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        sweeps
            .entry((series.metric.clone(), series.clock, others))
            .or_default()
            .push((at, series));
    }
    let sweeps = sweeps.into_iter().filter(|(_, points)| points.len() > 1);
    sweeps
        .map(|((metric, clock, _), mut points)| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let clock = clock.map(Clock::name).unwrap_or_default();
            (format!("{metric} {clock}").trim().to_owned(), points)
        })
        .collect()
}

fn swept(axis: &str, points: &[(f64, &Series)]) -> Plot {
    let lines: Vec<Line> = Quantile::SHOWN
        .into_iter()
        .enumerate()
        .map(|(index, quantile)| Line {
            points: points
                .iter()
                .filter_map(|(at, series)| {
                    let found = series
                        .quantiles
                        .iter()
                        .find(|one| one.quantile == quantile)?;
                    Some((*at, shown(series.unit, found.value)))
                })
                .collect(),
            colour: colour(index),
            faint_from: None,
            dots: true,
            open: points
                .iter()
                .filter(|(_, series)| {
                    !quantile.supported(usize::try_from(series.counts.ok).unwrap_or(usize::MAX))
                })
                .map(|(at, _)| *at)
                .collect(),
            gap: None,
        })
        .collect();
    let unit = points
        .first()
        .map_or("", |(_, series)| axis_name(series.unit));
    let values = lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(_, value)| *value));
    let x = Axis::wide(
        if axis == "rate" {
            "planned per second"
        } else {
            "at once"
        },
        points.iter().map(|(at, _)| *at),
        8.0,
        8,
    );
    let y = Axis::wide(unit, values, SPAN, 6);
    Plot {
        x,
        y,
        lines,
        columns: Vec::new(),
        tall: 1.0,
        half: false,
    }
}

/// What happened when, for each series that was long enough.
pub(super) fn timelines(all: &[Series]) -> Markup {
    let shown = all
        .iter()
        .filter(|series| series.timeline.len() > 1)
        .take(TIMELINES);
    html! {
        @for series in shown {
            @let timeline = &series.timeline[..series.timeline.len().min(POINTS)];
            div.panel {
                h3 { "Over time: " (short(&series.name)) }
                p.dim { (short(&conditions(series))) }
                div.charts {
                    (figure(&latency(series.unit, timeline), "Values of requests by their planned send.", &[(class(0), "P50"), (class(1), "P99, or the greatest")]))
                    (figure(&outcomes(timeline), "What became of requests by their planned send, per interval.", &[
                        ("pass".to_owned(), "ok"), ("fail".to_owned(), "failed"), ("untestable".to_owned(), "dropped"),
                    ]))
                }
            }
        }
    }
}

fn latency(unit: Unit, timeline: &[Interval]) -> Plot {
    let line = |index: usize, of: fn(&Interval) -> Option<u64>| Line {
        points: timeline
            .iter()
            .filter_map(|one| Some((float(one.at_ns) / 1e9, shown(unit, of(one)?))))
            .collect(),
        colour: colour(index),
        faint_from: None,
        dots: timeline.len() <= 40,
        open: Vec::new(),
        gap: timeline
            .iter()
            .map(|one| float(one.length_ns) / 1e9 * GAP)
            .reduce(f64::max),
    };
    let lines = Vec::from([line(0, |one| one.p50), line(1, |one| one.p99)]);
    let values = lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(_, value)| *value));
    Plot {
        x: seconds(timeline),
        y: Axis::wide(axis_name(unit), values, SPAN, 5),
        lines,
        columns: Vec::new(),
        tall: 0.85,
        half: true,
    }
}

fn outcomes(timeline: &[Interval]) -> Plot {
    let column = |one: &Interval| {
        let from = float(one.at_ns) / 1e9;
        // A sixth of an interval stays free on each side.
        let part = float(one.length_ns) / 1e9 / 6.0;
        Column {
            ends: (from + part, from + 5.0 * part),
            parts: Vec::from([
                (OK, float(one.ok)),
                (FAILED, float(one.failed)),
                (DROPPED, float(one.dropped)),
            ]),
        }
    };
    let highest = timeline.iter().map(|one| {
        let all = one
            .ok
            .saturating_add(one.failed)
            .saturating_add(one.dropped);
        float(all)
    });
    Plot {
        x: seconds(timeline),
        y: Axis::linear("requests", highest, 5),
        lines: Vec::new(),
        columns: timeline.iter().map(column).collect(),
        tall: 0.85,
        half: true,
    }
}

fn seconds(timeline: &[Interval]) -> Axis {
    let ends = timeline
        .iter()
        .map(|one| float(one.at_ns.saturating_add(one.length_ns)) / 1e9);
    Axis::linear("seconds since the run began", ends, 8)
}
