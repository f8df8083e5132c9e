//! What a run found, for a terminal.

use std::fmt::Write;

use reports::model::load::{Series, Unit};
use reports::model::{Load, Report};
use reports::stats::quantile::Estimate;

use crate::live::line::ms;

/// The table and what belongs to it.
#[must_use]
pub fn text(report: &Report<Load>) -> String {
    let mut out = String::new();
    for group in groups(&report.body.series) {
        let _ = writeln!(out, "\n{}", group.title);
        let _ = writeln!(
            out,
            "  {:<22} {:>8} {:>6} {:>6}  {:<26} {:<26} {:<26} {:>9}",
            "", "ok", "failed", "drop", "P50", "P95", "P99", "max"
        );
        for series in group.series {
            let _ = writeln!(out, "{}", row(series));
            for (kind, count) in &series.counts.failures {
                let _ = writeln!(out, "  {:<22} {count} × {kind}", "");
            }
        }
    }
    for series in &report.body.series {
        out.push_str(&stages(series));
    }
    for comparison in &report.body.comparisons {
        out.push_str(&super::super::compare::text(comparison));
    }
    if let Some(client) = &report.body.client {
        let cpu = client.cpu_user_ns + client.cpu_system_ns;
        let _ = writeln!(
            out,
            "\nthis client: {} ms of processor time in {} ms, {} MiB at most",
            ms(cpu),
            ms(client.wall_ns),
            client.rss_peak_bytes >> 20
        );
        if let (Some(p50), Some(p99)) = (client.send_delay_p50_ns, client.send_delay_p99_ns) {
            let _ = writeln!(
                out,
                "sent after plan: P50 {} ms, P99 {} ms",
                fine(p50),
                fine(p99)
            );
        }
    }
    for note in &report.body.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

struct Group<'a> {
    title: String,
    series: Vec<&'a Series>,
}

/// Neighbours with the same arrivals stand under one title.
fn groups(all: &[Series]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for series in all {
        let arrival = &series.arrival;
        let kind = if arrival.closed_loop {
            "closed loop: stalls of the server are not in it"
        } else {
            "open loop, from the planned send"
        };
        let offered = arrival
            .offered_per_s
            .map_or(String::new(), |rate| format!(", {rate:.1}/s offered"));
        let dimensions: Vec<String> = series
            .dimensions
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let title = format!(
            "{} ({kind}){offered}  {}",
            arrival.model,
            dimensions.join(" ")
        );
        match groups.last_mut() {
            Some(last) if last.title == title => last.series.push(series),
            _ => groups.push(Group {
                title,
                series: vec![series],
            }),
        }
    }
    groups
}

fn row(series: &Series) -> String {
    let mut cells = series
        .quantiles
        .iter()
        .map(|estimate| quantile(estimate, series.unit));
    let mut next = || cells.next().unwrap_or_else(|| "–".to_owned());
    format!(
        "  {:<22} {:>8} {:>6} {:>6}  {:<26} {:<26} {:<26} {:>9}  {:.2}/s",
        series.name,
        series.counts.ok,
        series.counts.failed(),
        series.counts.dropped,
        next(),
        next(),
        next(),
        series
            .max
            .map_or_else(|| "–".to_owned(), |max| value(max, series.unit)),
        series.arrival.achieved_per_s,
    )
}

fn quantile(estimate: &Estimate, unit: Unit) -> String {
    let end = |end: Option<u64>| end.map_or_else(|| "?".to_owned(), |end| value(end, unit));
    let range = format!("({}–{})", end(estimate.low), end(estimate.high));
    let mark = if estimate.supported {
        ""
    } else {
        " n too small"
    };
    format!("{} {range}{mark}", value(estimate.value, unit))
}

fn value(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Nanoseconds => ms(value),
        Unit::BytesPerSecond => format!("{} MiB/s", mib(value)),
        Unit::Bytes => format!("{} MiB", mib(value)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[expect(clippy::cast_precision_loss, reason = "shown with three decimals")]
fn fine(nanos: u64) -> String {
    format!("{:.3}", nanos as f64 / 1e6)
}

/// What the server told of a series, stacked against what the client saw.
fn stages(series: &Series) -> String {
    let mut out = String::new();
    let Some((rest, mean)) = series.unexplained_ns().zip(series.mean) else {
        return out;
    };
    let _ = writeln!(
        out,
        "\nwhere the mean of {} goes ({} ms):",
        series.name,
        ms(mean)
    );
    for stage in &series.stages {
        let _ = writeln!(out, "  {:<26} {:>9} ms", stage.name, ms(stage.mean_ns));
    }
    let sign = if rest < 0 { "-" } else { "" };
    let _ = writeln!(
        out,
        "  {:<26} {:>9} ms",
        "not explained",
        format!("{sign}{}", ms(rest.unsigned_abs()))
    );
    out
}
