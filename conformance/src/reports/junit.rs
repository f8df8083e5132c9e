//! JUnit XML: one suite per area. Known failures are skipped with their reason, everything else red is a failure or error.

use std::fmt::Write as _;

use crate::expected::Standing;
use crate::report::{Outcome, Report, Status};

/// The document.
#[must_use]
pub fn xml(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"e2b-conformance\" time=\"{:.3}\">",
        report.seconds()
    );
    for profile in &report.body.profiles {
        let cases: Vec<&Outcome> = report
            .body
            .results
            .iter()
            .filter(|result| result.area == profile.area)
            .collect();
        let of = |wanted: &str| cases.iter().filter(|result| kind(result) == wanted).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            escaped(&profile.name),
            cases.len(),
            of("failure"),
            of("error"),
            of("skipped")
        );
        for case in cases {
            one(&mut out, case);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn kind(result: &Outcome) -> &'static str {
    match (result.status, result.standing) {
        (Status::Pass, Standing::Unscored) => "",
        (_, Standing::Known | Standing::Unscored) | (Status::Unsupported, _) => "skipped",
        (_, Standing::Stale) | (Status::Fail, _) => "failure",
        (Status::Untestable | Status::HarnessError, _) => "error",
        (Status::Pass, _) => "",
    }
}

fn one(out: &mut String, result: &Outcome) {
    let _ = write!(
        out,
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
        escaped(&result.area),
        escaped(&result.check),
        result.ms / 1_000.0
    );
    let kind = kind(result);
    if kind.is_empty() {
        out.push_str("/>\n");
        return;
    }
    let actual = result.actual.clone().unwrap_or_default();
    let message = match (&result.known_reason, &result.expected) {
        (Some(reason), _) => format!("{reason}: {actual}"),
        (None, Some(expected)) => format!("expected {expected}, got {actual}"),
        (None, None) => actual,
    };
    let _ = writeln!(
        out,
        ">\n      <{kind} message=\"{}\">{}</{kind}>\n    </testcase>",
        escaped(&message),
        escaped(&format!(
            "{}\n{}\nagain: {}",
            result.title, result.status, result.rerun
        ))
    );
}

/// XML 1.0 has no way to write most control characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(
            escaped("a<b>\"&\u{0}\u{1b}\n"),
            "a&lt;b&gt;&quot;&amp;\u{fffd}\u{fffd}\n"
        );
    }
}
