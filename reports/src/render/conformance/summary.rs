//! Cards of targets and the table of profiles.

use maud::{Markup, html};

use super::{Column, Section};
use crate::model::conformance::{Counts, Level, Profile, Status};
use crate::render::page::{command, table};
use crate::render::text::{line, percent, short};
use crate::stats::count;

/// One card per target: verdict, counts, what it is, how to run it again.
pub(super) fn targets(columns: &[Column<'_>]) -> Markup {
    html! {
        section aria-labelledby="targets" {
            h2 #targets { @if columns.len() == 1 { "Target" } @else { "Targets" } }
            div.cards { @for column in columns { (card(column)) } }
        }
    }
}

fn card(column: &Column<'_>) -> Markup {
    let (report, body) = (column.report, &column.report.body);
    let red = body.red(false).len();
    let of = |status| body.count(status);
    let must = body.results.iter().filter(|one| one.level == Level::Must);
    let (passed, musts) = must.fold((0, 0), |(passed, all), one| {
        (passed + usize::from(one.status == Status::Pass), all + 1)
    });
    html! {
        article.card {
            h3 { (short(&column.label)) }
            p.verdict {
                @if red == 0 { span.pill.pass { "✓ green" } }
                @else { span.pill.fail { "✕ red: " (red) @if red == 1 { " result" } @else { " results" } } }
                @if report.interrupted { " " span.pill.untestable { "interrupted: results are missing" } }
            }
            p.figure { b { (percent(passed, musts)) } " of core checks pass " span.dim { (passed) " of " (musts) } }
            (super::share_of_all(body))
            p.counts {
                @for (status, number) in [
                    ("passed", of(Status::Pass)), ("failed", of(Status::Fail)), ("unsupported", of(Status::Unsupported)),
                    ("untestable", of(Status::Untestable)), ("harness errors", of(Status::HarnessError)), ("not selected", body.not_selected),
                ] {
                    span { b { (number) } " " (status) } " "
                }
            }
            dl {
                dt { "Address" } dd { (short(&report.target.url)) }
                dt { "Template" } dd { (short(&report.target.template)) }
                @for (name, version) in report.target.versions.iter().take(20) {
                    dt { (short(name)) } dd { (short(version)) }
                }
                dt { "Suite" } dd {
                    (short(&report.tool.name)) " " (short(&report.tool.version))
                    @if let Some(revision) = &report.tool.git_revision { " (" (short(revision)) ")" }
                }
                dt { "Run" } dd { (report.started_at.strftime("%Y-%m-%d %H:%M UTC")) ", " (format!("{:.1}", report.seconds())) " s" }
                dt { "Traceability" } dd {
                    (body.covered) " of " (body.requirements) " requirements have a check (" (percent(body.covered, body.requirements)) ")"
                }
                @if !body.unsupported.is_empty() {
                    dt { "Declared unsupported" } dd { (line(&body.unsupported.join(", "))) }
                }
                @if !body.left_behind.is_empty() {
                    dt { "Left behind" } dd { "sandboxes that could not be killed: " (line(&body.left_behind.join(", "))) }
                }
            }
            details {
                summary { "Run it again" }
                (command(&format!("E2B_API_KEY=… {}", report.command_line())))
            }
        }
    }
}

/// Core and extended checks by profile.
pub(super) fn profiles(columns: &[Column<'_>], sections: &[Section<'_>]) -> Markup {
    let head = html! {
        thead { tr {
            th scope="col" { "Profile" }
            @if columns.len() > 1 { th scope="col" { "Target" } }
            th scope="col" { "Core" }
            th scope="col" { "Extended" }
            th.num scope="col" { "Un" wbr; "supported" }
            th.num scope="col" { "Un" wbr; "testable" }
            th.num scope="col" { "Require" wbr; "ments" }
        } }
    };
    html! {
        section aria-labelledby="profiles" {
            h2 #profiles { "Profiles" }
            p.dim { "Core are the checks of MUST requirements, extended those of SHOULD and MAY." }
            (table("Results by profile", html! {
                (head)
                tbody { @for section in sections { (profile(columns, section)) } }
            }))
        }
    }
}

fn profile(columns: &[Column<'_>], section: &Section<'_>) -> Markup {
    let found: Vec<Option<&Profile>> = columns
        .iter()
        .map(|column| {
            let profiles = &column.report.body.profiles;
            profiles.iter().find(|one| one.area == section.area)
        })
        .collect();
    html! {
        @for (index, (column, profile)) in columns.iter().zip(&found).enumerate() {
            tr.first[index == 0] {
                @if index == 0 {
                    th scope="rowgroup" rowspan=[(columns.len() > 1).then_some(columns.len())] {
                        a href={ "#profile=" (crate::render::text::slug(section.area)) } { (short(section.name)) }
                    }
                }
                @if columns.len() > 1 { td { (short(&column.label)) } }
                @if let Some(profile) = profile {
                    td { (share(profile.core, "core")) }
                    td { (share(profile.extended, "extended")) }
                    td.num { (profile.core.unsupported + profile.extended.unsupported) }
                    td.num { (profile.core.untestable + profile.extended.untestable) }
                    td.num { (profile.covered) "/" (profile.requirements) }
                } @else {
                    td colspan="5" { span.dim { "not run" } }
                }
            }
        }
    }
}

fn share(counts: Counts, what: &str) -> Markup {
    html! {
        @if counts.total() == 0 { span.dim { "–" } }
        @else {
            span.share { (counts.pass) "/" (counts.total()) }
            (bar(&counts, what))
        }
    }
}

pub(super) fn all(statuses: impl Iterator<Item = Status>) -> Counts {
    let mut counts = Counts::default();
    statuses.for_each(|status| counts.add(status));
    counts
}

/// Shares side by side, as wide as there is room.
pub(super) fn bar(counts: &Counts, what: &str) -> Markup {
    let parts = [
        ("pass", counts.pass),
        ("fail", counts.fail),
        ("untestable", counts.untestable),
        ("harness-error", counts.harness_error),
        ("unsupported", counts.unsupported),
    ];
    let mut at = 0;
    let places: Vec<_> = parts
        .into_iter()
        .filter(|(_, number)| *number > 0)
        .map(|(class, number)| {
            at += number;
            (class, at - number, number)
        })
        .collect();
    let all = count(at.max(1));
    let label = format!("{what}: {} of {} pass", counts.pass, counts.total());
    html! {
        svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (class, at, number) in places {
                rect class=(class) x=(format!("{:.3}", 100.0 * count(at) / all)) y="0"
                    width=(format!("{:.3}", 100.0 * count(number) / all)) height="6" {}
            }
        }
    }
}
