//! The page of load reports, and the parts that the page of peers shares with it.
//!
//! ```text
//!  report ── what was run: facts, warnings, command
//!    ├─ comparisons           ratio, interval, verdict
//!    ├─ density, leaks        memory by number of live sandboxes, what did not go away
//!    ├─ table of series       counts, quantiles with intervals
//!    ├─ curves                percentiles, by concurrency or rate, over time
//!    ├─ stages                what the server told, and what it does not explain
//!    └─ client, notes, environment
//! ```
//!
//! What a run was made for comes first: a verdict or a density, where there is one.

mod comparison;
mod curves;
mod density;
mod head;
mod series;
mod stages;

use maud::{Markup, html};

pub(super) use self::head::environment;
pub(super) use self::series::headline;
use super::text::{line, short, slug};
use crate::model::load::{Comparison, Series};
use crate::model::{Load, Peers, Report};

/// Series of one report that are shown.
const SERIES: usize = 200;

/// All load reports of a site.
#[must_use]
pub fn main(reports: &[(String, &Report<Load>)]) -> Markup {
    html! {
        (contents(reports.iter().map(|(folder, report)| (folder.as_str(), report.body.scenario.as_str()))))
        @for (folder, report) in reports {
            section aria-labelledby={ "run-" (slug(folder)) } {
                h2 #{ "run-" (slug(folder)) } { (short(&report.body.scenario)) ": " (short(super::target(&report.target))) }
                (head::facts(report))
                (compared(&report.body.comparisons))
                @if let Some(found) = &report.body.density { (density::density(found)) }
                @if let Some(leaks) = &report.body.leaks { (density::leaks(leaks)) }
                (measured(&report.body.series))
                @if let Some(client) = &report.body.client { (head::client(client)) }
                (notes(&report.body.notes))
                (environment(&report.environment))
            }
        }
    }
}

/// All reports on peers.
#[must_use]
pub fn peers(reports: &[(String, &Report<Peers>)]) -> Markup {
    html! {
        (contents(reports.iter().map(|(folder, _)| (folder.as_str(), "peers"))))
        @for (folder, report) in reports {
            section aria-labelledby={ "run-" (slug(folder)) } {
                h2 #{ "run-" (slug(folder)) } {
                    @for (index, arm) in report.body.arms.iter().take(16).enumerate() {
                        @if index > 0 { " beside " } (short(&arm.name)) " " (short(&arm.version))
                    }
                }
                (head::facts(report))
                (compared(&report.body.comparisons))
                (measured(&report.body.series))
                (density::memory(&report.body.memory))
                (notes(&report.body.notes))
                (environment(&report.environment))
            }
        }
    }
}

fn compared(comparisons: &[Comparison]) -> Markup {
    html! {
        @if !comparisons.is_empty() { (comparison::comparisons(comparisons)) }
    }
}

fn measured(series: &[Series]) -> Markup {
    let series = &series[..series.len().min(SERIES)];
    html! {
        @if !series.is_empty() {
            h3 { "Series" }
            (series::table_of(series))
            (curves::spectra(series))
            (curves::sweeps(series))
            (stages::stages(series))
            (curves::timelines(series))
        }
    }
}

fn contents<'a>(entries: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Markup {
    html! {
        @if entries.len() > 1 {
            nav.facts-row.runs aria-label="Runs on this page" {
                @for (folder, name) in entries {
                    a href={ "#run-" (slug(folder)) } { (short(name)) " (" (short(folder)) ")" }
                }
            }
        }
    }
}

fn notes(notes: &[String]) -> Markup {
    html! {
        @if !notes.is_empty() {
            h3 { "Notes" }
            ul.notes { @for note in notes.iter().take(100) { li { (line(note)) } } }
        }
    }
}
