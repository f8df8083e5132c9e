//! Sides that took turns: ratios, their intervals, and what follows.

use maud::{Markup, html};

use crate::model::load::{Comparison, Verdict};
use crate::render::text::{line, short};
use crate::stats::ratio::Ratio;

pub(super) fn comparisons(all: &[Comparison]) -> Markup {
    // One scale for all, so that they can be compared by eye: as far to the left as to the right.
    let far = |ratio: &Ratio| [ratio.low, ratio.high].map(|end| end.max(1e-6).ln().abs());
    let widest = all
        .iter()
        .flat_map(|one| one.ratios.iter().flat_map(far))
        .filter(|far| far.is_finite())
        .fold(0.05, f64::max);
    html! {
        h3 { "Comparisons" }
        div.cards { @for one in all.iter().take(500) { (card(one, widest)) } }
        p.dim {
            "Ratios of quantiles with intervals of 95 % by bootstrap over rounds, p by permutation of rounds. A difference counts when it is real (p below the level) and matters (beyond the floor). "
            span.unsupported-n { "*" } " marks a ratio with too few samples or rounds behind it."
        }
    }
}

fn card(one: &Comparison, widest: f64) -> Markup {
    let (class, word) = match one.finding.verdict {
        Verdict::Worse => ("worse", "✕ worse"),
        Verdict::Better => ("better", "✓ better"),
        Verdict::Same => ("same", "≈ no difference that counts"),
        Verdict::Undecided => ("undecided", "? too little to say"),
    };
    html! {
        article.card {
            h4 { (line(&one.title)) }
            p { span.pill.(class) { (word) } " " span.dim {
                @if one.finding.real { "real" } @else { "not shown to be real" } ", "
                @if one.finding.matters { "beyond the floor of " } @else { "within the floor of " } (format!("{:.1} %", one.floor * 100.0))
            } }
            p.dim { "B: " (short(&one.b)) ". A: " (short(&one.a)) "." }
            table.plain {
                caption.hidden { "Ratios B / A" }
                thead { tr { th scope="col" { "at" } th.num scope="col" { "B / A" } th scope="col" { "interval" } } }
                tbody { @for ratio in &one.ratios { tr {
                    th scope="row" { (ratio.quantile) }
                    td.num {
                        @if ratio.supported { b { (format!("{:.3}", ratio.value)) } }
                        @else { abbr title="too few samples or rounds" { (format!("{:.3}*", ratio.value)) } }
                    }
                    td { (whisker(ratio, widest)) span.dim { (format!("{:.3}–{:.3}", ratio.low, ratio.high)) } }
                } } }
            }
            p.dim { "p " (format!("{:.4}", one.p_value)) " at a level of " (one.alpha) ", " (one.rounds) " rounds, " (one.resamples) " resamples" }
        }
    }
}

/// The interval as a line, with 1 in the middle.
fn whisker(ratio: &Ratio, widest: f64) -> Markup {
    let place = |value: f64| 100.0 + 95.0 * (value.max(1e-6).ln() / widest).clamp(-1.0, 1.0);
    let at = |value: f64| format!("{:.1}", place(value));
    html! {
        svg.whisker viewBox="0 0 200 22" aria-hidden="true" {
            line x1="4" y1="11" x2="196" y2="11" {}
            line.one x1="100" y1="2" x2="100" y2="20" {}
            line.range x1=(at(ratio.low)) y1="11" x2=(at(ratio.high)) y2="11" {}
            circle cx=(at(ratio.value)) cy="11" r="5" {}
        }
    }
}
