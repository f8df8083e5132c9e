//! The verdicts as a table and as JUnit XML.

use std::fmt::Write;

use super::Run;
use crate::verdict::Outcome;

/// For a terminal.
pub fn text(run: &Run) -> String {
    let mut text = format!(
        "{} with seed {}, agent as {}: {}\n",
        run.scenario,
        run.seed,
        run.isolation,
        run.agent.join(" ")
    );
    for verdict in &run.verdicts {
        let outcome = match verdict.outcome {
            Outcome::Pass => "pass",
            Outcome::Fail => "FAIL",
            Outcome::Inconclusive => "?",
        };
        let _ = writeln!(
            text,
            "  {outcome:5} {:28} {} {:?}",
            verdict.row, verdict.because, verdict.entries
        );
    }
    let exit = match (run.timed_out, run.exit_code) {
        (true, _) => "was stopped: its time was over".to_owned(),
        (_, Some(code)) => format!("exited with {code}"),
        (_, None) => "was ended by a signal".to_owned(),
    };
    let _ = writeln!(text, "  the agent {exit} after {} calls", run.journal.len());
    text
}

/// One line for each of several agents: which rules it broke.
pub fn summary(runs: &[Run]) -> String {
    let lines = runs.iter().map(|run| {
        let rows = |outcome| -> Vec<&str> {
            let verdicts = run.verdicts.iter();
            let these = verdicts.filter(|verdict| verdict.outcome == outcome);
            these.map(|verdict| verdict.row.as_str()).collect()
        };
        let failed = rows(Outcome::Fail);
        let failed = match &failed[..] {
            [] => "none".to_owned(),
            rows => rows.join(", "),
        };
        let passed = rows(Outcome::Pass).len();
        let agent = run.agent.join(" ");
        format!("  {agent:48} {passed:3} passed, failed: {failed}\n")
    });
    std::iter::once("all agents\n".to_owned())
        .chain(lines)
        .collect()
}

/// For a CI: a suite for each agent; inconclusive rows are skipped ones, with the reason.
pub fn junit(runs: &[Run]) -> String {
    let suites: String = runs.iter().map(suite).collect();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n{suites}</testsuites>\n")
}

fn suite(run: &Run) -> String {
    let count = |outcome| {
        run.verdicts
            .iter()
            .filter(|verdict| verdict.outcome == outcome)
            .count()
    };
    let mut xml = format!(
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
        escape(&format!("{}: {}", run.scenario, run.agent.join(" "))),
        run.verdicts.len(),
        count(Outcome::Fail),
        count(Outcome::Inconclusive),
    );
    for verdict in &run.verdicts {
        let because = escape(&format!(
            "{} (entries {:?})",
            verdict.because, verdict.entries
        ));
        let inner = match verdict.outcome {
            Outcome::Pass => String::new(),
            Outcome::Fail => format!("<failure message=\"{because}\"/>"),
            Outcome::Inconclusive => format!("<skipped message=\"{because}\"/>"),
        };
        let _ = writeln!(
            xml,
            "  <testcase classname=\"verdict\" name=\"{}\">{inner}</testcase>",
            escape(&verdict.row)
        );
    }
    xml + "</testsuite>\n"
}

fn escape(text: &str) -> String {
    // Control characters are not allowed in XML, escaped or not.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
