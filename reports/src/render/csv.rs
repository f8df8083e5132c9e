//! Tables for other programs: RFC 4180, one header line.
//!
//! A cell that a spreadsheet would take for a formula gets an apostrophe before it: texts of targets are not to be run there.

use super::{Loaded, target, text};
use crate::folder::AnyReport;
use crate::model::load::{Activity, Series};

/// The files that have lines.
#[must_use]
pub fn files(reports: &[Loaded]) -> Vec<(String, String)> {
    [
        ("series.csv", series(reports)),
        ("checks.csv", checks(reports)),
        ("density.csv", density(reports)),
    ]
    .into_iter()
    .filter(|(_, lines)| lines.len() > 1)
    .map(|(name, lines)| (name.to_owned(), lines.concat()))
    .collect()
}

fn series(reports: &[Loaded]) -> Vec<String> {
    let head = [
        "run",
        "target",
        "series",
        "metric",
        "unit",
        "arrival",
        "closed_loop",
        "planned",
        "sent",
        "dropped",
        "ok",
        "failed",
        "quantile",
        "value",
        "low",
        "high",
        "supported",
    ];
    let mut lines = Vec::from([line(&head.map(str::to_owned))]);
    for loaded in reports {
        let (name, all): (&str, &[Series]) = match &loaded.report {
            AnyReport::Load(report) => (target(&report.target), &report.body.series),
            AnyReport::Peers(report) => (target(&report.target), &report.body.series),
            AnyReport::Conformance(_) | AnyReport::Verdicts(_) => continue,
        };
        for one in all {
            let counts = &one.counts;
            for quantile in &one.quantiles {
                let end = |end: Option<u64>| end.map(|end| end.to_string()).unwrap_or_default();
                lines.push(line(&[
                    loaded.name.clone(),
                    name.to_owned(),
                    one.name.clone(),
                    one.metric.clone(),
                    word(&one.unit),
                    one.arrival.model.clone(),
                    one.arrival.closed_loop.to_string(),
                    counts.planned.to_string(),
                    counts.sent.to_string(),
                    counts.dropped.to_string(),
                    counts.ok.to_string(),
                    counts.failed().to_string(),
                    quantile.quantile.to_string(),
                    quantile.value.to_string(),
                    end(quantile.low),
                    end(quantile.high),
                    quantile.supported.to_string(),
                ]));
            }
        }
    }
    lines
}

fn checks(reports: &[Loaded]) -> Vec<String> {
    let head = [
        "run", "target", "check", "area", "level", "status", "standing", "ms", "expected", "actual",
    ];
    let mut lines = Vec::from([line(&head.map(str::to_owned))]);
    for loaded in reports {
        let AnyReport::Conformance(report) = &loaded.report else {
            continue;
        };
        for one in &report.body.results {
            lines.push(line(&[
                loaded.name.clone(),
                target(&report.target).to_owned(),
                one.check.clone(),
                one.area.clone(),
                one.level.to_string(),
                word(&one.status),
                word(&one.standing),
                format!("{:.1}", one.ms),
                one.expected.clone().unwrap_or_default(),
                one.actual.clone().unwrap_or_default(),
            ]));
        }
    }
    lines
}

fn density(reports: &[Loaded]) -> Vec<String> {
    let head = [
        "run",
        "target",
        "activity",
        "live",
        "silent",
        "vmm_pss_bytes",
        "pss_bytes",
        "private_dirty_bytes",
        "cgroup_bytes",
        "available_delta_bytes",
        "guest_used_bytes",
        "answer_p50_ns",
        "answer_max_ns",
    ];
    let mut lines = Vec::from([line(&head.map(str::to_owned))]);
    for loaded in reports {
        let AnyReport::Load(report) = &loaded.report else {
            continue;
        };
        for row in report.body.density.iter().flat_map(|density| &density.rows) {
            let number =
                |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
            let activity = match &row.activity {
                Activity::Idle => "idle".to_owned(),
                Activity::After(what) => what.clone(),
            };
            lines.push(line(&[
                loaded.name.clone(),
                target(&report.target).to_owned(),
                activity,
                row.live.to_string(),
                row.silent.to_string(),
                number(row.vmm_pss_bytes),
                number(row.pss_bytes),
                number(row.private_dirty_bytes),
                number(row.cgroup_bytes),
                row.available_delta_bytes
                    .map(|value| value.to_string())
                    .unwrap_or_default(),
                number(row.guest_used_bytes),
                number(row.answer_p50_ns),
                number(row.answer_max_ns),
            ]));
        }
    }
    lines
}

/// The word of a value as the schema has it.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|one| cell(one)).collect();
    format!("{}\r\n", cells.join(","))
}

fn cell(raw: &str) -> String {
    let text = text::line(raw).to_string();
    let number = text.parse::<f64>().is_ok();
    let guard = if !number && text.starts_with(['=', '+', '-', '@', '\t']) {
        "'"
    } else {
        ""
    };
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{guard}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_text_and_nothing_else() {
        assert_eq!(cell("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell("@x,y"), "\"'@x,y\"");
        assert_eq!(
            [cell("-5"), cell("-5 MiB"), cell("")],
            ["-5", "'-5 MiB", ""]
        );
    }
}
