//! The first page: every run in a line or two, with its figures.

use maud::{Markup, html};

use super::text::{percent, short, slug};
use super::{Loaded, load, target};
use crate::folder::AnyReport;
use crate::model::conformance::Status;
use crate::model::load::{Series, Verdict};
use crate::model::verdicts::RuleStanding;
use crate::model::{Body, Report};

/// Series that a card shows.
const SERIES: usize = 4;

/// A card per run.
#[must_use]
pub fn main(reports: &[Loaded]) -> Markup {
    html! {
        h2.hidden { "Runs" }
        div.cards.first {
            @for loaded in reports {
                @match &loaded.report {
                    AnyReport::Load(report) => { (card(report, &loaded.name, &report.body.scenario, figures(&report.body.series, report.body.comparisons.iter().map(|one| one.finding.verdict)))) }
                    AnyReport::Peers(report) => { (card(report, &loaded.name, "peers", figures(&report.body.series, report.body.comparisons.iter().map(|one| one.finding.verdict)))) }
                    AnyReport::Conformance(report) => { (card(report, &loaded.name, "conformance", {
                        let (passed, all) = (report.body.count(Status::Pass), report.body.results.len());
                        let red = report.body.red(false).len();
                        html! {
                            p { @if red == 0 { span.pill.pass { "✓ green" } } @else { span.pill.fail { "✕ red: " (red) } } }
                            p.figure { b { (percent(passed, all)) } " of checks pass " span.dim { (passed) " of " (all) } }
                            (super::conformance::share_of_all(&report.body))
                            p.dim { (report.body.covered) " of " (report.body.requirements) " requirements have a check" }
                        }
                    })) }
                    AnyReport::Verdicts(report) => { (card(report, &loaded.name, "agents", {
                        let all = || report.body.agents.iter().flat_map(|agent| &agent.verdicts);
                        let broken = all().filter(|one| one.standing == RuleStanding::Broken).count();
                        html! { p.figure { b { (broken) } " of " (all().count()) " verdicts are broken rules" } }
                    })) }
                }
            }
        }
    }
}

fn card<B: Body>(report: &Report<B>, folder: &str, what: &str, figures: Markup) -> Markup {
    let anchor = match B::KIND {
        "conformance" => String::new(),
        _ => format!("#run-{}", slug(folder)),
    };
    html! {
        article.card {
            h3 { a href={ (B::KIND) ".html" (anchor) } { (short(what)) ": " (short(target(&report.target))) } }
            (figures)
            p.dim {
                (report.started_at.strftime("%Y-%m-%d %H:%M UTC")) " · " (short(folder))
                @if report.interrupted { " · " span.pill.undecided { "interrupted" } }
            }
        }
    }
}

fn figures(series: &[Series], verdicts: impl Iterator<Item = Verdict>) -> Markup {
    let mut counted = [0usize; 4];
    for verdict in verdicts {
        counted[match verdict {
            Verdict::Worse => 0,
            Verdict::Better => 1,
            Verdict::Same => 2,
            Verdict::Undecided => 3,
        }] += 1;
    }
    html! {
        @if !series.is_empty() {
            dl.headlines {
                @for one in series.iter().take(SERIES) {
                    dt { (short(&one.name)) }
                    dd { (load::headline(one)) }
                }
            }
            @if series.len() > SERIES { p.dim { (series.len() - SERIES) " more series" } }
        }
        @if counted != [0; 4] {
            p.counts {
                @for (number, class, word) in [(counted[0], "worse", "worse"), (counted[1], "better", "better"), (counted[2], "same", "the same"), (counted[3], "undecided", "undecided")] {
                    @if number > 0 { span.pill.(class) { (number) " " (word) } " " }
                }
            }
        }
    }
}
