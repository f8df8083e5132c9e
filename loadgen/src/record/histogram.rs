//! HDR histograms and what is read out of them.

use hdrhistogram::{Counter, Histogram};
use reports::model::load::SpectrumPoint;
use reports::stats::quantile::{Estimate, Quantile, estimate};

/// Significant digits.
const DIGITS: u8 = 3;
/// The longest value that is told apart: 2^50, which in nanoseconds is thirteen days.
pub const HIGHEST: u64 = 1 << 50;
/// Steps between halvings of what is left, in distributions as they are drawn.
const TICKS: u32 = 5;

/// An empty histogram of all values up to [`HIGHEST`]; it grows with what it is given.
#[must_use]
pub fn empty<C: Counter>() -> Histogram<C> {
    // Three digits are always allowed.
    Histogram::new(DIGITS).unwrap_or_else(|error| unreachable!("{error}"))
}

/// Records; 0 counts as 1, and what is beyond [`HIGHEST`] as that.
pub fn record<C: Counter>(histogram: &mut Histogram<C>, value: u64) {
    // It grows by itself up to 2^63, so nothing is refused.
    let _ = histogram.record(value.clamp(1, HIGHEST));
}

/// All values, rising, as precise as the histogram is: each the highest of those that it takes for equal.
#[must_use]
pub fn sorted(histogram: &Histogram<u64>) -> Vec<u64> {
    let mut values = Vec::with_capacity(usize::try_from(histogram.len()).unwrap_or(0));
    for bucket in histogram.iter_recorded() {
        let count = usize::try_from(bucket.count_at_value()).unwrap_or(0);
        values.extend(std::iter::repeat_n(bucket.value_iterated_to(), count));
    }
    values
}

/// The shown quantiles with their intervals, those that the count does not support marked.
#[must_use]
pub fn estimates(histogram: &Histogram<u64>) -> Vec<Estimate> {
    let values = sorted(histogram);
    let all = Quantile::SHOWN.into_iter();
    all.filter_map(|quantile| estimate(&values, quantile))
        .collect()
}

/// The distribution in a few dozen points, dense where it is thin.
#[must_use]
pub fn spectrum(histogram: &Histogram<u64>) -> Vec<SpectrumPoint> {
    let mut points: Vec<SpectrumPoint> = Vec::new();
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS) {
        count += step.count_since_last_iteration();
        let point = SpectrumPoint {
            share: step.quantile(),
            value: step.value_iterated_to(),
            count,
        };
        match points.last_mut() {
            Some(last) if last.count == count => *last = point,
            _ => points.push(point),
        }
    }
    points
}

/// The percentile text form (`.hgrm`) that HDR plotters read, values divided by `divisor`.
#[must_use]
pub fn hgrm(histogram: &Histogram<u64>, divisor: f64) -> String {
    use std::fmt::Write;
    let scaled = |value: u64| float(value) / divisor;
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS) {
        count += step.count_since_last_iteration();
        let (value, q) = (
            scaled(step.value_iterated_to()),
            step.quantile_iterated_to(),
        );
        let _ = write!(out, "{value:12.3} {q:2.12} {count:10}");
        if q < 1.0 {
            let _ = write!(out, " {:14.2}", 1.0 / (1.0 - q));
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.mean() / divisor,
        histogram.stdev() / divisor,
        scaled(histogram.max()),
        histogram.len(),
        histogram.buckets(),
        2048,
    );
    out
}

#[expect(clippy::cast_precision_loss, reason = "values are of three digits")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut histogram = empty();
        for &value in values {
            record(&mut histogram, value);
        }
        histogram
    }

    #[test]
    fn the_text_form_is_the_known_one() {
        let histogram = of(&[1_000_000, 2_000_000, 2_000_000, 10_000_000]);
        insta::assert_snapshot!(hgrm(&histogram, 1e6));
    }

    #[test]
    fn what_too_few_samples_say_is_marked() {
        let few = estimates(&of(&(1..=50).collect::<Vec<_>>()));
        let supported: Vec<bool> = few.iter().map(|estimate| estimate.supported).collect();
        assert_eq!(supported, [true, false, false]);
        assert!(estimates(&of(&[])).is_empty());
    }

    #[test]
    fn nothing_is_too_long_or_too_short() {
        let histogram = of(&[0, u64::MAX]);
        assert_eq!((histogram.len(), histogram.min()), (2, 1));
        assert!(histogram.max() >= HIGHEST);
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_samples_within_a_thousandth(mut values in prop::collection::vec(1u64..10_000_000_000, 1..500)) {
            let histogram = of(&values);
            values.sort_unstable();
            for found in estimates(&histogram) {
                let truth = estimate(&values, found.quantile).unwrap();
                let off = float(found.value.abs_diff(truth.value)) / float(truth.value);
                prop_assert!(off <= 1e-3, "{} for {}", found.value, truth.value);
                prop_assert_eq!(found.low.is_some(), truth.low.is_some());
            }
        }

        #[test]
        fn a_spectrum_rises_and_ends_with_all(values in prop::collection::vec(1u64..1_000_000, 1..300)) {
            let points = spectrum(&of(&values));
            for pair in points.windows(2) {
                prop_assert!(pair[0].value <= pair[1].value && pair[0].share <= pair[1].share && pair[0].count < pair[1].count);
            }
            let last = points.last().unwrap();
            prop_assert_eq!(last.count, u64::try_from(values.len()).unwrap());
            prop_assert!((last.share - 1.0).abs() < 1e-9);
        }
    }
}
