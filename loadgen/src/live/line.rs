//! One line of progress, from numbers alone.

use std::fmt::Write;
use std::time::Duration;

use super::Numbers;

/// Most kinds of failure that are named.
const KINDS: usize = 4;

/// The line: time, turns, rate, what is under way, quantiles, failures.
#[must_use]
pub fn line(numbers: &Numbers, elapsed: Duration, rate: f64, in_flight: u64) -> String {
    let mut out = format!(
        "{:>6.1} s  {:>7} done  {rate:>7.1}/s  {in_flight:>5} under way",
        elapsed.as_secs_f64(),
        numbers.done
    );
    if let Some([p50, p95, p99]) = numbers.quantiles {
        let _ = write!(out, "  P50 {} P95 {} P99 {} ms", ms(p50), ms(p95), ms(p99));
    }
    if numbers.dropped > 0 {
        let _ = write!(out, "  {} dropped", numbers.dropped);
    }
    for (kind, count) in numbers.failures.iter().take(KINDS) {
        let _ = write!(out, "  {count} × {kind}");
    }
    if numbers.failures.len() > KINDS {
        out.push_str("  …");
    }
    out
}

/// Nanoseconds as milliseconds with one decimal.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub fn ms(nanos: u64) -> String {
    format!("{:.1}", nanos as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_matters() {
        let mut numbers = Numbers {
            done: 120,
            ..Numbers::default()
        };
        let shown = |numbers: &Numbers| line(numbers, Duration::from_millis(12_340), 9.8, 3);
        insta::assert_snapshot!(shown(&numbers), @"  12.3 s      120 done      9.8/s      3 under way");
        numbers.quantiles = Some([1_000_000, 25_500_000, 2_000_000_000]);
        numbers.dropped = 7;
        numbers.failures = [("http 503".to_owned(), 2), ("timeout".to_owned(), 1)].into();
        insta::assert_snapshot!(shown(&numbers), @"  12.3 s      120 done      9.8/s      3 under way  P50 1.0 P95 25.5 P99 2000.0 ms  7 dropped  2 × http 503  1 × timeout");
    }
}
