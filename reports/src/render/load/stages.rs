//! What the server told of its time, beside what the client saw.
//!
//! A stage has one colour in all bars of a report. There are [`SERIES`] of them, for the stages that take most; the others
//! share a grey of their own, and all stand in the figures.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::model::load::Series;
use crate::render::chart::{SERIES, class, keys};
use crate::render::page::table;
use crate::render::text::{ms, short, signed_ms};
use crate::stats::float;

/// Stages of one series that are shown.
const STAGES: usize = 32;

pub(super) fn stages(all: &[Series]) -> Markup {
    let told: Vec<&Series> = all
        .iter()
        .filter(|series| !series.stages.is_empty() && series.mean.is_some())
        .collect();
    let longest = told
        .iter()
        .filter_map(|series| series.mean)
        .max()
        .unwrap_or(1);
    html! {
        @if !told.is_empty() {
            div.panel.stages {
                h3 { "Stages" }
                p.dim { "Means in milliseconds, so that they add up to what the client saw; what no stage explains is the last part." }
                @let colours = colours(&told);
                @for series in &told { (one(series, longest, &colours)) }
            }
        }
    }
}

/// Class of the stages that have a colour of their own, by name: those that take most, all series together.
type Colours<'a> = BTreeMap<&'a str, String>;

fn colours<'a>(told: &[&'a Series]) -> Colours<'a> {
    // In the order in which they were told, so that neighbours differ and a legend reads from left to right.
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for stage in told.iter().flat_map(|series| &series.stages) {
        if let Some((_, sum)) = sums.iter_mut().find(|(name, _)| *name == stage.name) {
            *sum = sum.saturating_add(stage.mean_ns);
        } else if sums.len() < STAGES {
            sums.push((&stage.name, stage.mean_ns));
        }
    }
    let mut largest: Vec<u64> = sums.iter().map(|(_, sum)| *sum).collect();
    largest.sort_unstable_by(|a, b| b.cmp(a));
    let least = largest.get(SERIES.len() - 1).copied().unwrap_or(0);
    sums.iter()
        .filter(|(_, sum)| *sum >= least)
        .take(SERIES.len())
        .enumerate()
        .map(|(index, (name, _))| (*name, class(index)))
        .collect()
}

fn class_of(colours: &Colours<'_>, name: &str) -> String {
    let smaller = || "smaller".to_owned();
    colours.get(name).cloned().unwrap_or_else(smaller)
}

/// Colours and names of one bar, with means.
fn legend(series: &Series, colours: &Colours<'_>) -> Vec<(String, String)> {
    let (mut own, mut smaller) = (Vec::new(), (0, 0u64));
    for stage in series.stages.iter().take(STAGES) {
        match colours.get(stage.name.as_str()) {
            Some(class) => own.push((
                class.clone(),
                format!("{} {}", stage.name, ms(stage.mean_ns)),
            )),
            None => smaller = (smaller.0 + 1, smaller.1.saturating_add(stage.mean_ns)),
        }
    }
    if smaller.0 > 0 {
        let word = if smaller.0 == 1 { "one" } else { "ones" };
        let text = format!("{} smaller {word} {}", smaller.0, ms(smaller.1));
        own.push(("smaller".to_owned(), text));
    }
    let rest = signed_ms(series.unexplained_ns().unwrap_or(0));
    own.push(("rest".to_owned(), format!("not explained {rest} ms")));
    own
}

fn one(series: &Series, longest: u64, colours: &Colours<'_>) -> Markup {
    let stages = &series.stages[..series.stages.len().min(STAGES)];
    let rest = series.unexplained_ns().unwrap_or(0);
    let legend = legend(series, colours);
    let legend: Vec<(String, &str)> = legend
        .iter()
        .map(|(class, text)| (class.clone(), text.as_str()))
        .collect();
    html! {
        h4 { (short(&series.name)) }
        (keys(&legend))
        (bar(series, longest, colours))
        details { summary { "Figures" }
        (table(&format!("Stages of {}", short(&series.name)), html! {
            thead { tr {
                th scope="col" { "Stage" } th.num scope="col" { "mean ms" } th.num scope="col" { "P50 ms" } th.num scope="col" { "P95 ms" } th.num scope="col" { "told by" }
            } }
            tbody {
                @for stage in stages {
                    tr {
                        th scope="row" { (short(&stage.name)) }
                        td.num { (ms(stage.mean_ns)) } td.num { (ms(stage.p50_ns)) } td.num { (ms(stage.p95_ns)) } td.num { (stage.count) }
                    }
                }
                tr { th scope="row" { "not explained" } td.num { (signed_ms(rest)) } td.num { "–" } td.num { "–" } td.num { "–" } }
                tr { th scope="row" { "what the client saw" } td.num { (series.mean.map(ms).unwrap_or_default()) } td.num { "–" } td.num { "–" } td.num { (series.counts.ok) } }
            }
        }))
        }
    }
}

/// One bar; as long as its mean is to the longest of the report.
fn bar(series: &Series, longest: u64, colours: &Colours<'_>) -> Markup {
    let rest = u64::try_from(series.unexplained_ns().unwrap_or(0)).unwrap_or(0);
    let parts = series.stages.iter().take(STAGES);
    let parts = parts
        .map(|stage| (class_of(colours, &stage.name), stage.mean_ns))
        .chain([("rest".to_owned(), rest)]);
    let mut at = 0.0;
    let places: Vec<(String, f64, f64)> = parts
        .map(|(class, ns)| {
            let wide = 100.0 * float(ns) / float(longest.max(1));
            let place = (class, at, wide);
            at += wide;
            place
        })
        .collect();
    html! {
        svg.bar viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="Stages to scale; the figures follow" {
            @for (class, at, wide) in places {
                rect class=(class) x=(format!("{at:.3}")) y="0" width=(format!("{wide:.3}")) height="10" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::load::{Arrival, Counts, Method, Stage, Unit};

    fn series(stages: Vec<Stage>) -> Series {
        Series {
            name: "s".to_owned(),
            metric: "cold_start".to_owned(),
            clock: None,
            unit: Unit::Nanoseconds,
            dimensions: BTreeMap::new(),
            arrival: Arrival {
                model: "constant".to_owned(),
                closed_loop: false,
                offered_per_s: None,
                achieved_per_s: 1.0,
            },
            counts: Counts::default(),
            wall_ns: 0,
            method: Method::Hdr3,
            quantiles: Vec::new(),
            min: None,
            max: None,
            mean: Some(100_000_000),
            spectrum: Vec::new(),
            timeline: Vec::new(),
            stages,
            hgrm: None,
            hlog: None,
        }
    }

    #[test]
    fn stages_keep_their_colour_and_the_smallest_share_one() {
        let stage = |name: &str, mean_ns| Stage {
            name: name.to_owned(),
            count: 1,
            mean_ns,
            p50_ns: mean_ns,
            p95_ns: mean_ns,
        };
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let whole = series(
            names
                .iter()
                .zip(1..)
                .map(|(name, ms)| stage(name, ms * 1_000_000))
                .collect(),
        );
        let part = series(Vec::from([stage("j", 5_000_000), stage("a", 1_000_000)]));
        let found = colours(&[&whole, &part]);
        assert_eq!(found.len(), SERIES.len());
        assert!(!found.contains_key("b") && found.contains_key("j"));
        let mut classes: Vec<&String> = found.values().collect();
        classes.sort();
        classes.dedup();
        assert_eq!(classes.len(), SERIES.len(), "two stages of one colour");
        let texts = |series| {
            legend(series, &found)
                .into_iter()
                .map(|(_, text)| text)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            texts(&whole)[8..],
            ["2 smaller ones 3.0", "not explained 45.0 ms"]
        );
        assert_eq!(texts(&part)[..2], ["j 5.0", "1 smaller one 1.0"]);
    }
}
