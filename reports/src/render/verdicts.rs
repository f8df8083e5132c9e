//! The page of reports on how agents behaved.

use maud::{Markup, html};

use super::page::table;
use super::text::{line, short, slug, whole};
use crate::model::verdicts::{AgentRun, RuleStanding};
use crate::model::{Report, Verdicts};

/// All reports on agents of a site.
#[must_use]
pub fn main(reports: &[(String, &Report<Verdicts>)]) -> Markup {
    html! {
        @for (folder, report) in reports {
            section aria-labelledby={ "run-" (slug(folder)) } {
                h2 #{ "run-" (slug(folder)) } { (short(super::target(&report.target))) }
                p.dim { (report.started_at.strftime("%Y-%m-%d %H:%M UTC")) }
                (super::page::command(&report.command_line()))
                @for run in report.body.agents.iter().take(1_000) { (agent(run)) }
                (super::load::environment(&report.environment))
            }
        }
    }
}

fn agent(run: &AgentRun) -> Markup {
    html! {
        h3 { (short(&run.agent)) " " span.dim { (whole(run.calls)) " calls"
            @if let Some(sandbox) = &run.sandbox { ", sandbox " (short(sandbox)) } } }
        (table(&format!("Rules, {}", short(&run.agent)), html! {
            thead { tr { th scope="col" { "Rule" } th scope="col" { "Verdict" } th scope="col" { "Evidence" } } }
            tbody { @for one in run.verdicts.iter().take(1_000) {
                tr {
                    th scope="row" { code { (short(&one.rule)) } div.dim { (line(&one.title)) } }
                    td { @match one.standing {
                        RuleStanding::Kept => { span.pill.pass { "✓ kept" } }
                        RuleStanding::Broken => { span.pill.fail { "✕ broken" } }
                        RuleStanding::NotExercised => { span.pill { "· not exercised" } }
                    } }
                    td { @if one.evidence.is_empty() { span.dim { "–" } } @else {
                        details { summary { (one.evidence.len()) " lines" }
                            pre tabindex="0" { @for text in one.evidence.iter().take(200) { (line(text)) "\n" } } }
                    } }
                }
            } }
        }))
    }
}
