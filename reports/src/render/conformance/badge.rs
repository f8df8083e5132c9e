//! A badge for a README: core checks that pass, and extended ones.

use maud::{Markup, html};

use crate::model::conformance::{Conformance, Counts};

/// Width of a character of the badge's font, in tenths of a pixel, generously.
const CHARACTER: usize = 66;

/// The badge as an SVG file.
#[must_use]
pub fn badge(body: &Conformance) -> String {
    let sum = |of: fn(&crate::model::conformance::Profile) -> Counts| {
        body.profiles
            .iter()
            .map(of)
            .fold((0, 0), |(pass, all), counts| {
                // What was declared unsupported is not what failed, and not what was shown either.
                let tried = counts.total() - counts.unsupported;
                (pass + counts.pass, all + tried)
            })
    };
    let (core, extended) = (sum(|one| one.core), sum(|one| one.extended));
    let value = match core.1 + extended.1 {
        0 => "nothing tried".to_owned(),
        _ => format!(
            "core {}/{} · extended {}/{}",
            core.0, core.1, extended.0, extended.1
        ),
    };
    // Dark enough for white text: contrast at least 4.5.
    let colour = if core.1 + extended.1 == 0 {
        "#57606a"
    } else if core.0 < core.1 || !body.red(false).is_empty() {
        "#b42318"
    } else if extended.0 < extended.1 {
        "#7a5b00"
    } else {
        "#0b6b3a"
    };
    draw("E2B conformance", &value, colour).into_string()
}

fn draw(name: &str, value: &str, colour: &str) -> Markup {
    let width = |text: &str| text.chars().count() * CHARACTER / 10 + 14;
    let (left, right) = (width(name), width(value));
    let label = format!("{name}: {value}");
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(left + right) height="20" role="img" aria-label=(label) {
            title { (label) }
            clipPath #r { rect width=(left + right) height="20" rx="3" {} }
            g clip-path="url(#r)" {
                rect width=(left) height="20" fill="#3b4048" {}
                rect x=(left) width=(right) height="20" fill=(colour) {}
            }
            g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" {
                text x=(left / 2) y="14" textLength=(left - 14) { (name) }
                text x=(left + right / 2) y="14" textLength=(right - 14) { (value) }
            }
        }
    }
}
