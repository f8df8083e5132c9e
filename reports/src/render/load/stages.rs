//! What the server told of its time, beside what the client saw.

use maud::{Markup, html};

use crate::model::load::Series;
use crate::render::chart::{class, keys};
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
                p.dim { "Means, so that they add up to what the client saw; what no stage explains is grey." }
                @for series in told { (one(series, longest)) }
            }
        }
    }
}

fn one(series: &Series, longest: u64) -> Markup {
    let stages = &series.stages[..series.stages.len().min(STAGES)];
    let rest = series.unexplained_ns().unwrap_or(0);
    let mut legend: Vec<(String, &str)> = stages
        .iter()
        .enumerate()
        .map(|(index, stage)| (class(index), stage.name.as_str()))
        .collect();
    legend.push(("rest".to_owned(), "not explained"));
    html! {
        h4 { (short(&series.name)) }
        (keys(&legend))
        (bar(series, longest))
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
fn bar(series: &Series, longest: u64) -> Markup {
    let rest = u64::try_from(series.unexplained_ns().unwrap_or(0)).unwrap_or(0);
    let parts = series.stages.iter().take(STAGES).enumerate();
    let parts = parts
        .map(|(index, stage)| (class(index), stage.mean_ns))
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
