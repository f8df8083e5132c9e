//! Summary for a terminal: what is red, then counts by area.

use std::fmt::Write as _;

use crate::expected::Standing;
use crate::report::{Counts, Outcome, Report, Status};
use crate::requirements::Level;

/// The summary.
#[must_use]
pub fn summary(report: &Report, strict: bool) -> String {
    let mut out = String::new();
    for result in report
        .body
        .results
        .iter()
        .filter(|result| result.standing != Standing::Fine)
        .filter(|result| result.standing != Standing::Unscored || result.status != Status::Pass)
    {
        detail(&mut out, result);
    }
    let _ = writeln!(
        out,
        "{:<34} {:>14} {:>14} {:>12} {:>11}",
        "profile", "core passed", "extended", "unsupported", "untestable"
    );
    for profile in &report.body.profiles {
        let _ = writeln!(
            out,
            "{:<34} {:>14} {:>14} {:>12} {:>11}",
            profile.name,
            share(profile.core),
            share(profile.extended),
            profile.core.unsupported + profile.extended.unsupported,
            profile.core.untestable + profile.extended.untestable
        );
    }
    let red = report.body.red(strict).len();
    let _ = writeln!(
        out,
        "\n{} checks: {} passed, {} failed, {} unsupported, {} untestable, {} harness errors; {} not selected",
        report.body.results.len(),
        report.body.count(Status::Pass),
        report.body.count(Status::Fail),
        report.body.count(Status::Unsupported),
        report.body.count(Status::Untestable),
        report.body.count(Status::HarnessError),
        report.body.not_selected
    );
    let _ = writeln!(
        out,
        "{} of {} requirements have a check; {:.1} s",
        report.body.covered,
        report.body.requirements,
        report.seconds()
    );
    let unscored: Vec<&Outcome> = report
        .body
        .results
        .iter()
        .filter(|result| result.standing == Standing::Unscored)
        .collect();
    if !unscored.is_empty() {
        let passed = unscored
            .iter()
            .filter(|result| result.status == Status::Pass);
        let _ = writeln!(
            out,
            "{} checks are not of the set and not scored; {} of them passed",
            unscored.len(),
            passed.count()
        );
    }
    if report.interrupted {
        let _ = writeln!(out, "INTERRUPTED: results are missing");
    }
    if !report.body.left_behind.is_empty() {
        let _ = writeln!(
            out,
            "these sandboxes could not be killed: {}",
            report.body.left_behind.join(", ")
        );
    }
    let verdict = if red > 0 {
        format!("RED: {red} results")
    } else {
        "GREEN".to_owned()
    };
    let _ = writeln!(out, "{verdict}");
    out
}

fn share(counts: Counts) -> String {
    let total = counts.total();
    if total == 0 {
        "–".to_owned()
    } else {
        format!("{} of {total}", counts.pass)
    }
}

fn detail(out: &mut String, result: &Outcome) {
    let mark = match (result.standing, result.level) {
        (Standing::Known, _) => "known  ",
        (Standing::Stale, _) => "STALE  ",
        (Standing::Unscored, _) => "unscored",
        (_, Level::Must) => "RED    ",
        _ => "warning",
    };
    let _ = writeln!(
        out,
        "{mark} {} ({}, {})",
        result.check, result.status, result.level
    );
    let _ = writeln!(out, "        {}", result.title);
    if let Some(expected) = &result.expected {
        let _ = writeln!(out, "        expected: {expected}");
    }
    if let Some(actual) = &result.actual {
        let _ = writeln!(out, "        actual:   {actual}");
    }
    if let Some(reason) = &result.known_reason {
        let _ = writeln!(out, "        listed:   {reason}");
    }
    let _ = writeln!(out, "        again:    {}\n", result.rerun);
}
