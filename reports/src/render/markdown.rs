//! The figures as Markdown, for an issue or a repository.

use std::fmt::Write as _;

use super::text::{self, mib, ms, percent, signed_mib, whole};
use super::{Loaded, target};
use crate::folder::AnyReport;
use crate::model::conformance::{Conformance, Status};
use crate::model::load::{Activity, Comparison, Density, Leak, Series, Unit};
use crate::model::{Body, Environment, Report, Virtualization};
use crate::stats::quantile::{Estimate, Quantile};

/// All runs on one page.
#[must_use]
pub fn page(reports: &[Loaded]) -> String {
    let mut out = String::from("# Runs\n");
    for loaded in reports {
        match &loaded.report {
            AnyReport::Load(report) => {
                head(&mut out, &report.body.scenario, report);
                series(&mut out, &report.body.series);
                comparisons(&mut out, &report.body.comparisons);
                if let Some(found) = &report.body.density {
                    density(&mut out, found);
                }
                leaks(&mut out, report.body.leaks.as_deref().unwrap_or_default());
                notes(&mut out, &report.body.notes);
            }
            AnyReport::Peers(report) => {
                head(&mut out, "peers", report);
                series(&mut out, &report.body.series);
                comparisons(&mut out, &report.body.comparisons);
                notes(&mut out, &report.body.notes);
            }
            AnyReport::Conformance(report) => {
                head(&mut out, "conformance", report);
                conformance(&mut out, &report.body);
            }
            AnyReport::Verdicts(report) => {
                head(&mut out, "agents", report);
                for agent in &report.body.agents {
                    let _ = writeln!(
                        out,
                        "\n### {}\n\n| rule | verdict |\n|---|---|",
                        cell(&agent.agent)
                    );
                    for one in &agent.verdicts {
                        let _ = writeln!(
                            out,
                            "| {} | {} |",
                            cell(&one.rule),
                            super::csv::word(&one.standing)
                        );
                    }
                }
            }
        }
    }
    out
}

fn head<B: Body>(out: &mut String, what: &str, report: &Report<B>) {
    let _ = writeln!(
        out,
        "\n## {}: {}\n\n{} · {:.1} s · {} {} · template {}{}{}\n\n```console\n$ {}\n```\n",
        cell(what),
        cell(target(&report.target)),
        report.started_at.strftime("%Y-%m-%d %H:%M UTC"),
        report.seconds(),
        cell(&report.tool.name),
        cell(&report.tool.version),
        cell(&report.target.template),
        place(&report.environment),
        if report.interrupted {
            " · **interrupted: results are missing**"
        } else {
            ""
        },
        text::line(&report.command_line())
            .to_string()
            .replace('`', "'")
            .replace('\n', " ")
    );
}

fn place(environment: &Environment) -> String {
    environment.host.as_ref().map_or(String::new(), |host| {
        let lab = match host.virtualization {
            Virtualization::Lab => ", **lab: ratios only**",
            _ => "",
        };
        format!(
            " · {} × {}, {}{lab}",
            host.cpus,
            cell(&host.cpu),
            cell(&host.kernel)
        )
    })
}

fn value(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Nanoseconds => format!("{} ms", ms(value)),
        Unit::Bytes => format!("{} MiB", mib(value)),
        Unit::BytesPerSecond => format!("{} MiB/s", mib(value)),
    }
}

fn series(out: &mut String, all: &[Series]) {
    if all.is_empty() {
        return;
    }
    out.push_str("| series | ok | failed | dropped | P50 | P95 | P99 | max |\n|---|---:|---:|---:|---:|---:|---:|---:|\n");
    for one in all {
        let cells: Vec<String> = Quantile::SHOWN
            .iter()
            .map(|shown| {
                let found = one.quantiles.iter().find(|found| found.quantile == *shown);
                found.map_or("–".to_owned(), |found| estimate(one.unit, found))
            })
            .collect();
        let closed = if one.arrival.closed_loop {
            " (closed loop)"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "| {}{closed} | {} | {} | {} | {} | {} |",
            cell(&one.name),
            whole(one.counts.ok),
            whole(one.counts.failed()),
            whole(one.counts.dropped),
            cells.join(" | "),
            one.max.map_or("–".to_owned(), |max| value(one.unit, max))
        );
    }
    out.push_str("\n`*`: fewer than ten samples beyond it. In brackets the interval of 95 %, from order statistics.\n");
}

fn estimate(unit: Unit, found: &Estimate) -> String {
    let bare = |ns: Option<u64>| {
        ns.map_or("?".to_owned(), |ns| match unit {
            Unit::Nanoseconds => ms(ns),
            Unit::Bytes | Unit::BytesPerSecond => mib(ns),
        })
    };
    format!(
        "{}{} ({}–{})",
        value(unit, found.value),
        if found.supported { "" } else { "\\*" },
        bare(found.low),
        bare(found.high)
    )
}

fn comparisons(out: &mut String, all: &[Comparison]) {
    if all.is_empty() {
        return;
    }
    out.push_str(
        "\n| comparison | verdict | ratios B / A (95 %) | p | rounds |\n|---|---|---|---:|---:|\n",
    );
    for one in all {
        let ratios: Vec<String> = one
            .ratios
            .iter()
            .map(|ratio| {
                let mark = if ratio.supported { "" } else { "\\*" };
                format!(
                    "{} {:.3}{mark} ({:.3}–{:.3})",
                    ratio.quantile, ratio.value, ratio.low, ratio.high
                )
            })
            .collect();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.4} | {} |",
            cell(&one.title),
            super::csv::word(&one.finding.verdict),
            ratios.join(", "),
            one.p_value,
            one.rounds
        );
    }
}

fn density(out: &mut String, found: &Density) {
    out.push_str("\n| live | activity | VMM PSS | PSS | private dirty | cgroup | MemAvailable delta | guest used | silent |\n|---:|---|---:|---:|---:|---:|---:|---:|---:|\n");
    for row in &found.rows {
        let size = |bytes: Option<u64>| bytes.map_or("–".to_owned(), mib);
        let activity = match &row.activity {
            Activity::Idle => "idle".to_owned(),
            Activity::After(what) => cell(what),
        };
        let _ = writeln!(
            out,
            "| {} | {activity} | {} | {} | {} | {} | {} | {} | {} |",
            whole(row.live),
            size(row.vmm_pss_bytes),
            size(row.pss_bytes),
            size(row.private_dirty_bytes),
            size(row.cgroup_bytes),
            row.available_delta_bytes.map_or("–".to_owned(), signed_mib),
            size(row.guest_used_bytes),
            row.silent
        );
    }
    let _ = writeln!(
        out,
        "\nMiB for one sandbox. Ended: {}.",
        cell(&found.stop.detail)
    );
}

fn leaks(out: &mut String, all: &[Leak]) {
    for leak in all.iter().filter(|leak| leak.after > leak.before) {
        let _ = writeln!(
            out,
            "\n**Left behind:** {} {}",
            whole(leak.after - leak.before),
            cell(&leak.what)
        );
    }
    if !all.is_empty() && all.iter().all(|leak| leak.after <= leak.before) {
        out.push_str("\nNothing was left behind.\n");
    }
}

fn notes(out: &mut String, all: &[String]) {
    for note in all {
        let _ = writeln!(out, "\n> {}", cell(note));
    }
}

fn conformance(out: &mut String, body: &Conformance) {
    let _ = writeln!(
        out,
        "{} checks: **{} passed**, {} failed, {} unsupported, {} untestable, {} harness errors. {} of {} requirements have a check ({}).\n\n\
         | profile | core | extended | unsupported | untestable | requirements |\n|---|---:|---:|---:|---:|---:|",
        body.results.len(),
        body.count(Status::Pass),
        body.count(Status::Fail),
        body.count(Status::Unsupported),
        body.count(Status::Untestable),
        body.count(Status::HarnessError),
        body.covered,
        body.requirements,
        percent(body.covered, body.requirements)
    );
    for one in &body.profiles {
        let _ = writeln!(
            out,
            "| {} | {}/{} | {}/{} | {} | {} | {}/{} |",
            cell(&one.name),
            one.core.pass,
            one.core.total(),
            one.extended.pass,
            one.extended.total(),
            one.core.unsupported + one.extended.unsupported,
            one.core.untestable + one.extended.untestable,
            one.covered,
            one.requirements
        );
    }
    let red = body.red(true);
    if !red.is_empty() {
        out.push_str("\nNot as it should be:\n\n");
    }
    for one in red {
        let _ = writeln!(
            out,
            "- `{}` ({}, {}): {}",
            code(&one.check),
            one.level,
            one.status,
            cell(&one.title)
        );
    }
}

/// Text within a line of Markdown: nothing of it is markup.
fn cell(raw: &str) -> String {
    let mut out = String::new();
    for c in text::short(raw).to_string().chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

fn code(raw: &str) -> String {
    text::short(raw)
        .to_string()
        .replace(['`', '\n', '\t', '|'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(cell("<img src=x>|a\n# b"), "&lt;img src=x&gt;\\|a \\# b");
        assert_eq!(cell("[x](javascript:y)"), "\\[x\\](javascript:y)");
    }
}
