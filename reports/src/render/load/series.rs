//! The table of series: counts and quantiles.

use maud::{Markup, html};

use crate::model::load::{Method, Series, Unit};
use crate::render::page::{stacked, table};
use crate::render::text::{line, mib, ms, short, whole};
use crate::stats::quantile::{Estimate, Quantile};

/// A value in its unit, as a number without it.
pub(super) fn value(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Nanoseconds => ms(value),
        Unit::Bytes | Unit::BytesPerSecond => mib(value),
    }
}

/// The unit of [`value`].
pub(super) fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ms",
        Unit::Bytes => "MiB",
        Unit::BytesPerSecond => "MiB/s",
    }
}

/// Metric, clock and conditions on one line.
pub(super) fn conditions(series: &Series) -> String {
    let clock = series.clock.map(|clock| clock.name().to_owned());
    let conditions = series
        .dimensions
        .iter()
        .take(16)
        .map(|(name, value)| format!("{name} {value}"));
    let parts: Vec<String> = [series.metric.clone()]
        .into_iter()
        .chain(clock)
        .chain(conditions)
        .collect();
    parts.join(", ")
}

/// The quantiles that count, on one line.
pub(crate) fn headline(series: &Series) -> Markup {
    let failed = series.counts.failed();
    let shown = series
        .quantiles
        .iter()
        .filter(|one| Quantile::SHOWN.contains(&one.quantile));
    html! {
        @for found in shown {
            span.q { (found.quantile) " " b { (value(series.unit, found.value)) } @if !found.supported { "*" } } " "
        }
        span.dim { (unit(series.unit)) ", n " (whole(series.counts.ok)) }
        @if failed > 0 { " " span.error { (whole(failed)) " failed" } }
    }
}

pub(super) fn table_of(all: &[Series]) -> Markup {
    let hdr = all.iter().any(|series| series.method == Method::Hdr3);
    let names: Vec<String> = Quantile::SHOWN.iter().map(Quantile::to_string).collect();
    let mut columns = Vec::from(["Series", "ok", "failed", "dropped"]);
    columns.extend(names.iter().map(String::as_str));
    columns.extend(["max", "unit", "ok per s"]);
    let rows: Vec<Vec<Markup>> = all.iter().map(row).collect();
    html! {
        (stacked("Series", &columns, &rows))
        p.dim {
            "Beside each quantile the interval that holds the true one 95 times in 100, from order statistics. "
            span.unsupported-n { "*" } " marks one with fewer than ten samples beyond it: it says little. Failures are in no quantile. "
            @if hdr { "Quantiles are HDR values at quantile, three significant digits." } @else { "Quantiles are nearest ranks of the samples." }
        }
        (failures(all))
    }
}

fn row(series: &Series) -> Vec<Markup> {
    let counts = &series.counts;
    let show =
        |found: Option<u64>| found.map_or("–".to_owned(), |found| value(series.unit, found));
    let mut cells = Vec::from([html! {
        (short(&series.name))
        @if series.arrival.closed_loop { " " span.pill.undecided { "closed loop" } }
        div.dim { (line(&conditions(series))) ", " (short(&series.arrival.model))
            @if let Some(rate) = series.arrival.offered_per_s { " at " (format!("{rate:.1}")) "/s" } }
    }]);
    cells.extend(
        [counts.ok, counts.failed(), counts.dropped].map(|number| html! { (whole(number)) }),
    );
    cells.extend(Quantile::SHOWN.iter().map(|quantile| {
        let found = series
            .quantiles
            .iter()
            .find(|one| one.quantile == *quantile);
        found.map_or_else(|| html! { "–" }, |found| estimate(series.unit, found))
    }));
    cells.extend([
        html! { (show(series.max)) },
        html! { (unit(series.unit)) },
        html! { (format!("{:.2}", series.arrival.achieved_per_s)) },
    ]);
    cells
}

fn estimate(unit: Unit, found: &Estimate) -> Markup {
    let end = |end: Option<u64>| end.map_or("?".to_owned(), |end| value(unit, end));
    html! {
        @if found.supported { b { (value(unit, found.value)) } }
        @else { abbr title="too few samples for this quantile" { (value(unit, found.value)) "*" } }
        div.dim { (end(found.low)) "–" (end(found.high)) }
    }
}

fn failures(all: &[Series]) -> Markup {
    let failed: Vec<&Series> = all
        .iter()
        .filter(|series| !series.counts.failures.is_empty())
        .collect();
    html! {
        @if !failed.is_empty() {
            h3 { "Failures" }
            (table("Failures by kind", html! {
                thead { tr { th scope="col" { "Series" } th scope="col" { "Kinds" } } }
                tbody {
                    @for series in failed {
                        tr {
                            th scope="row" { (short(&series.name)) }
                            td { @for (kind, number) in series.counts.failures.iter().take(50) { div { b { (whole(*number)) } " × " (line(kind)) } } }
                        }
                    }
                }
            }))
        }
    }
}
