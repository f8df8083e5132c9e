//! The filter and the list of checks.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{Column, Row, Section, evidence, mark, pill};
use crate::model::conformance::{Level, Standing, Status};
use crate::render::text::{short, slug};

/// Statuses in the order of showing.
const STATUSES: [Status; 5] = [
    Status::Fail,
    Status::Untestable,
    Status::HarnessError,
    Status::Unsupported,
    Status::Pass,
];

pub(super) fn results(columns: &[Column<'_>], sections: &[Section<'_>]) -> Markup {
    html! {
        section.beside[columns.len() > 1] aria-labelledby="results" {
            h2 #results { "Checks" }
            (filter(columns, sections))
            p.nothing hidden { "No check fits the filter." }
            @for section in sections {
                section.area aria-labelledby={ "area-" (slug(section.area)) } {
                    h3 #{ "area-" (slug(section.area)) } {
                        (short(section.name)) " " span.dim { (section.rows.len()) }
                    }
                    @for row in &section.rows { (check(columns, section, row)) }
                }
            }
        }
    }
}

fn filter(columns: &[Column<'_>], sections: &[Section<'_>]) -> Markup {
    let rows = || sections.iter().flat_map(|section| &section.rows);
    let number = |status| {
        rows()
            .filter(|row| {
                row.outcomes
                    .iter()
                    .flatten()
                    .any(|one| one.status == status)
            })
            .count()
    };
    let differing = rows().filter(|row| row.differs()).count();
    html! {
        form.filter hidden role="search" aria-label="Filter checks" {
            label.wide { span { "Search" } input type="search" name="q" placeholder="id, words, requirement" autocomplete="off"; }
            label { span { "Profile" } select name="profile" {
                option value="" { "All profiles" }
                @for section in sections { option value=(slug(section.area)) { (short(section.name)) } }
            } }
            label { span { "Level" } select name="level" {
                option value="" { "All levels" }
                @for level in [Level::Must, Level::Should, Level::May] { option value=(level) { (level) } }
            } }
            fieldset {
                legend { "Status" }
                @for status in STATUSES {
                    @let (class, sign, word) = mark(Some(status));
                    @let number = number(status);
                    @if number > 0 {
                        label.chip.(class) {
                            input type="checkbox" name="status" value=(class);
                            span { span aria-hidden="true" { (sign) } " " (word) " " b { (number) } }
                        }
                    }
                }
                @if columns.len() > 1 {
                    label.chip {
                        input type="checkbox" name="differs" value="1";
                        span { "targets differ " b { (differing) } }
                    }
                }
            }
            div.end {
                output.said aria-live="polite" {}
                button.expand type="button" { "Expand all" }
                button type="reset" { "Reset" }
            }
        }
    }
}

fn check(columns: &[Column<'_>], section: &Section<'_>, row: &Row<'_>) -> Markup {
    let Some(any) = row.any() else {
        return html! {};
    };
    let states: BTreeSet<&str> = row
        .outcomes
        .iter()
        .map(|outcome| mark(outcome.map(|outcome| outcome.status)).0)
        .collect();
    let states: Vec<&str> = states.into_iter().collect();
    let words = any.requirements.iter().take(50);
    let words: Vec<String> = words.map(|one| short(&one.id).to_string()).collect();
    html! {
        details.check #{ "check-" (slug(row.check)) } data-area=(slug(section.area)) data-level=(any.level)
            data-states=(states.join(" ")) data-differs[row.differs()]
            data-words={ (short(row.check)) " " (short(&any.title)) " " (words.join(" ")) } {
            summary {
                span.states {
                    @for (column, outcome) in columns.iter().zip(&row.outcomes) {
                        @if columns.len() > 1 { span.hidden { (short(&column.label)) ": " } }
                        (pill(outcome.map(|outcome| outcome.status)))
                    }
                }
                span.what {
                    code { (short(row.check)) }
                    span.title { (short(&any.title)) }
                }
                span.tags {
                    span.level { (any.level) }
                    @for outcome in row.outcomes.iter().flatten() {
                        @match outcome.standing {
                            Standing::Known => { span.tag { "known" } }
                            Standing::Stale => { span.tag.warn { "stale entry" } }
                            Standing::Unscored => { span.tag { "not scored" } }
                            Standing::Fine | Standing::New => {}
                        }
                    }
                }
            }
            div.body {
                (evidence::requirements(&any.requirements))
                div.sides {
                    @for (column, outcome) in columns.iter().zip(&row.outcomes) {
                        (evidence::side((columns.len() > 1).then_some(column.label.as_str()), *outcome))
                    }
                }
            }
        }
    }
}
