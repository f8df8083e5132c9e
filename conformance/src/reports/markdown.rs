//! Markdown, for an issue or a repository.

use std::fmt::Write as _;

use crate::expected::Standing;
use crate::report::{Report, Status};

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# E2B conformance of {}\n\n{} · suite {} · template `{}` · agent {} · {:.1} s\n\n\
         {} checks: **{} passed**, {} failed, {} unsupported, {} untestable, {} harness errors; {} not selected. \
         {} of {} requirements have a check.\n\n```console\n$ {}\n```\n",
        report.target.url,
        report.started_at,
        report.tool.version,
        report.target.template,
        report
            .target
            .versions
            .get("envd")
            .map_or("?", String::as_str),
        report.seconds(),
        report.body.results.len(),
        report.body.count(Status::Pass),
        report.body.count(Status::Fail),
        report.body.count(Status::Unsupported),
        report.body.count(Status::Untestable),
        report.body.count(Status::HarnessError),
        report.body.not_selected,
        report.body.covered,
        report.body.requirements,
        report.command_line()
    );
    out.push_str("| profile | core passed | core failed | extended passed | extended failed | unsupported | untestable |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    for profile in &report.body.profiles {
        let (core, extended) = (profile.core, profile.extended);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            profile.name,
            core.pass,
            core.fail,
            extended.pass,
            extended.fail,
            core.unsupported + extended.unsupported,
            core.untestable + extended.untestable
        );
    }
    for (title, wanted) in [
        ("New failures", Standing::New),
        (
            "Stale entries of the expected-failures file",
            Standing::Stale,
        ),
        ("Known failures", Standing::Known),
        ("Not of the set: shown, not scored", Standing::Unscored),
    ] {
        let of: Vec<_> = report
            .body
            .results
            .iter()
            .filter(|result| result.standing == wanted)
            .filter(|result| wanted != Standing::Unscored || result.status != Status::Pass)
            .collect();
        if of.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n## {title}\n");
        for result in of {
            let _ = writeln!(
                out,
                "- `{}` ({}, {}): {}",
                result.check, result.level, result.status, result.title
            );
            for (name, text) in [
                ("expected", &result.expected),
                ("actual", &result.actual),
                ("listed because", &result.known_reason),
            ] {
                if let Some(text) = text {
                    let _ = writeln!(out, "  - {name}: {}", text.replace(['\n', '\r'], " "));
                }
            }
            let _ = writeln!(out, "  - again: `{}`", result.rerun);
        }
    }
    out
}
