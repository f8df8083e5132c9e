//! The page of conformance reports: one target, or several side by side.
//!
//! ```text
//!  columns ── one per target: label, report
//!  rows ───── one per check that any target was tried with, in the order of the suite, by area
//! ```

mod badge;
mod evidence;
mod results;
mod summary;

use std::collections::HashMap;

use maud::{Markup, html};

pub use self::badge::badge;
use crate::model::Report;
use crate::model::conformance::{Conformance, ConformanceReport, Outcome, Status};

/// More checks than any suite has: what a report lists beyond them is not shown.
const CHECKS: usize = 20_000;

/// One target of a page.
#[derive(Debug)]
pub struct Column<'a> {
    /// What it is called here; differs from column to column.
    pub label: String,
    /// Its report.
    pub report: &'a ConformanceReport,
}

/// One check with the results of all columns.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub check: &'a str,
    pub outcomes: Vec<Option<&'a Outcome>>,
}

impl<'a> Row<'a> {
    /// Any result: title, level and requirements are the check's.
    fn any(&self) -> Option<&'a Outcome> {
        self.outcomes.iter().flatten().next().copied()
    }

    /// Whether targets differ.
    fn differs(&self) -> bool {
        let status = |outcome: &Option<&Outcome>| outcome.map(|outcome| outcome.status);
        let mut all = self.outcomes.iter().map(status);
        let first = all.next().flatten();
        all.any(|status| status != first)
    }
}

/// An area with its rows.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub area: &'a str,
    pub name: &'a str,
    pub rows: Vec<Row<'a>>,
}

/// Names for columns, all different: the target's name, else its address; with the folder where two would be the same.
#[must_use]
pub fn columns<'a>(reports: &[(String, &'a Report<Conformance>)]) -> Vec<Column<'a>> {
    let name = |report: &Report<Conformance>| {
        let target = &report.target;
        target.name.clone().unwrap_or_else(|| target.url.clone())
    };
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (_, report) in reports {
        *seen.entry(name(report)).or_default() += 1;
    }
    reports
        .iter()
        .map(|(folder, report)| {
            let name = name(report);
            let label = match seen.get(&name) {
                Some(1) => name,
                _ => format!("{name} ({folder})"),
            };
            Column { label, report }
        })
        .collect()
}

/// Rows of all columns by area: areas and checks in the order in which they first come.
pub(crate) fn sections<'a>(columns: &[Column<'a>]) -> Vec<Section<'a>> {
    let mut sections: Vec<Section<'a>> = Vec::new();
    let mut areas: HashMap<&str, usize> = HashMap::new();
    let mut rows: HashMap<&str, (usize, usize)> = HashMap::new();
    for (index, column) in columns.iter().enumerate() {
        let body = &column.report.body;
        for outcome in body.results.iter().take(CHECKS) {
            let area = *areas.entry(&outcome.area).or_insert_with(|| {
                let named = body.profiles.iter().find(|one| one.area == outcome.area);
                sections.push(Section {
                    area: &outcome.area,
                    name: named.map_or(&outcome.area, |profile| &profile.name),
                    rows: Vec::new(),
                });
                sections.len() - 1
            });
            let (area, row) = *rows.entry(&outcome.check).or_insert_with(|| {
                sections[area].rows.push(Row {
                    check: &outcome.check,
                    outcomes: vec![None; columns.len()],
                });
                (area, sections[area].rows.len() - 1)
            });
            sections[area].rows[row].outcomes[index].get_or_insert(outcome);
        }
    }
    sections
}

/// What is on the page.
#[must_use]
pub fn main(columns: &[Column<'_>]) -> Markup {
    let sections = sections(columns);
    html! {
        (summary::targets(columns))
        (summary::profiles(columns, &sections))
        (results::results(columns, &sections))
    }
}

/// All checks of a report as one bar.
pub(crate) fn share_of_all(body: &Conformance) -> Markup {
    summary::bar(
        &summary::all(body.results.iter().map(|one| one.status)),
        "all checks",
    )
}

/// The word for a status, and a mark that does not rely on colour.
pub(crate) fn mark(status: Option<Status>) -> (&'static str, &'static str, &'static str) {
    match status {
        Some(Status::Pass) => ("pass", "✓", "pass"),
        Some(Status::Fail) => ("fail", "✕", "fail"),
        Some(Status::Unsupported) => ("unsupported", "–", "unsupported"),
        Some(Status::Untestable) => ("untestable", "?", "untestable"),
        Some(Status::HarnessError) => ("harness-error", "!", "harness error"),
        None => ("absent", "·", "not run"),
    }
}

/// A status as it stands in text.
pub(crate) fn pill(status: Option<Status>) -> Markup {
    let (class, sign, word) = mark(status);
    html! { span.pill.(class) { span aria-hidden="true" { (sign) } " " (word) } }
}
