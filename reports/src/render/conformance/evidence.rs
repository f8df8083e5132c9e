//! What shows a result: requirement, expected and actual, what went over the wire, the command that runs it again.

use maud::{Markup, html};

use super::pill;
use crate::model::conformance::{Covered, Exchange, Outcome};
use crate::render::page::command;
use crate::render::text::{line, long, short};

/// Exchanges of one check that are shown.
const EXCHANGES: usize = 64;
/// Headers of one message that are shown.
const HEADERS: usize = 64;
/// Requirements of one check that are shown.
const REQUIREMENTS: usize = 64;

pub(super) fn requirements(covered: &[Covered]) -> Markup {
    html! {
        ul.requirements {
            @for one in covered.iter().take(REQUIREMENTS) {
                li {
                    span.level { (one.level) } " " (line(&one.text))
                    span.source { code { (short(&one.id)) } " — " (line(&one.source)) }
                }
            }
        }
    }
}

/// One target's result of a check.
pub(super) fn side(label: Option<&str>, outcome: Option<&Outcome>) -> Markup {
    html! {
        div.side {
            @if let Some(label) = label {
                h4 { (short(label)) " " (pill(outcome.map(|outcome| outcome.status))) }
            }
            @match outcome {
                None => { p.dim { "This check was not run against this target." } }
                Some(outcome) => { (found(outcome)) }
            }
        }
    }
}

fn found(outcome: &Outcome) -> Markup {
    let facts = [
        ("Expected", &outcome.expected),
        ("Actual", &outcome.actual),
        ("Listed because", &outcome.known_reason),
    ];
    html! {
        dl.facts {
            @for (name, text) in facts {
                @if let Some(text) = text { dt { (name) } dd { (line(text)) } }
            }
            dt { "Took" } dd { (format!("{:.1} ms", outcome.ms)) }
        }
        @if !outcome.exchanges.is_empty() {
            ol.exchanges { @for one in outcome.exchanges.iter().take(EXCHANGES) { li { (exchange(one)) } } }
        }
        @if outcome.exchanges.len() > EXCHANGES { p.dim { (outcome.exchanges.len() - EXCHANGES) " more exchanges" } }
        p.again { "Run just this check:" }
        (command(&outcome.rerun))
    }
}

fn exchange(one: &Exchange) -> Markup {
    html! {
        details.exchange {
            summary {
                code { (short(&one.request)) }
                " "
                @match one.status {
                    Some(status) => { span.status { (status) } }
                    None => { span.status.none { "no answer" } }
                }
                span.dim { " " (format!("{:.1} ms", one.ms)) }
            }
            @if let Some(error) = &one.error { p.error { (line(error)) } }
            (message("Request", &one.request_headers, &one.request_body))
            @if one.status.is_some() { (message("Answer", &one.response_headers, &one.response_body)) }
        }
    }
}

fn message(name: &str, headers: &[String], body: &str) -> Markup {
    html! {
        p.message { (name) }
        @if !headers.is_empty() {
            pre.headers tabindex="0" { @for header in headers.iter().take(HEADERS) { (line(header)) "\n" } }
        }
        @if body.is_empty() { p.dim { "no body" } }
        @else { pre tabindex="0" { (long(body)) } }
    }
}
