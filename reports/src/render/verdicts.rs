//! The page of reports on how agents behaved.

use maud::{Markup, html};

use super::page::table;
use super::text::{line, short, slug, whole};
use crate::model::verdicts::{AgentRun, RuleStanding};
use crate::model::{Report, Verdicts};

/// Most agents, and rules of one, that are shown.
const MOST: usize = 1_000;

/// All reports on agents of a site.
#[must_use]
pub fn main(reports: &[(String, &Report<Verdicts>)]) -> Markup {
    html! {
        @for (folder, report) in reports {
            section aria-labelledby={ "run-" (slug(folder)) } {
                h2 #{ "run-" (slug(folder)) } { (short(super::target(&report.target))) }
                p.dim { (report.started_at.strftime("%Y-%m-%d %H:%M UTC")) }
                (super::page::command(&report.command_line()))
                @if report.body.agents.len() > 1 { (overview(folder, &report.body.agents)) }
                @for (n, run) in report.body.agents.iter().take(MOST).enumerate() {
                    (agent(run, &anchor(folder, n)))
                }
                (super::load::environment(&report.environment))
            }
        }
    }
}

/// Which rules each of several agents broke, with the way to what proves it.
fn overview(folder: &str, agents: &[AgentRun]) -> Markup {
    let rows = |run: &AgentRun, standing| -> Vec<String> {
        let these = run.verdicts.iter().filter(|one| one.standing == standing);
        these
            .take(MOST)
            .map(|one| short(&one.rule).to_string())
            .collect()
    };
    html! {
        (table("Agents", html! {
            thead { tr { th scope="col" { "Agent" } th.num scope="col" { "Calls" } th.num scope="col" { "Kept" }
                th scope="col" { "Broken" } th scope="col" { "Not exercised" } } }
            tbody { @for (n, run) in agents.iter().take(MOST).enumerate() {
                tr {
                    th scope="row" { a href={ "#" (anchor(folder, n)) } { (short(&run.agent)) } }
                    td.num { (whole(run.calls)) }
                    td.num { (rows(run, RuleStanding::Kept).len()) }
                    td { @for rule in rows(run, RuleStanding::Broken) { span.pill.fail { "✕ " (rule) } " " } }
                    td { @for rule in rows(run, RuleStanding::NotExercised) { span.pill { "· " (rule) } " " } }
                }
            } }
        }))
    }
}

/// Names the section of an agent.
fn anchor(folder: &str, n: usize) -> String {
    format!("agent-{}-{n}", slug(folder))
}

fn agent(run: &AgentRun, id: &str) -> Markup {
    html! {
        h3 #(id) { (short(&run.agent)) " " span.dim { (whole(run.calls)) " calls"
            @if let Some(sandbox) = &run.sandbox { ", sandbox " (short(sandbox)) } } }
        (table(&format!("Rules, {}", short(&run.agent)), html! {
            thead { tr { th scope="col" { "Rule" } th scope="col" { "Verdict" } th scope="col" { "Evidence" } } }
            tbody { @for one in run.verdicts.iter().take(MOST) {
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
