//! Axes: where they begin and end, and where they have marks. Pure.

/// How values lie on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithm.
    Log,
}

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with the unit.
    pub name: &'static str,
    /// How.
    pub scale: Scale,
    /// Least value.
    pub low: f64,
    /// Greatest.
    pub high: f64,
    /// Marks with their text.
    pub marks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis from zero (or from the least value, where it is negative) for these values; about `number` marks.
    #[must_use]
    pub fn linear(name: &'static str, values: impl Iterator<Item = f64>, number: usize) -> Self {
        let (low, high) = ends(values);
        let marks = ticks(low.min(0.0), high.max(low.min(0.0) + 1e-9), number);
        let low = marks.first().copied().unwrap_or(0.0).min(low.min(0.0));
        let high = marks.last().copied().unwrap_or(1.0).max(high);
        Self {
            name,
            scale: Scale::Linear,
            low,
            high,
            marks: marks.into_iter().map(|at| (at, plain(at))).collect(),
        }
    }

    /// An axis by logarithm where the values span more than a factor of `span`, else from zero.
    #[must_use]
    pub fn wide(
        name: &'static str,
        values: impl Iterator<Item = f64> + Clone,
        span: f64,
        number: usize,
    ) -> Self {
        let (low, high) = ends(values.clone().filter(|value| *value > 0.0));
        if low <= 0.0 || high / low <= span {
            return Self::linear(name, values, number);
        }
        let marks = log_ticks(low, high);
        Self {
            name,
            scale: Scale::Log,
            low: marks.first().copied().unwrap_or(low).min(low),
            high: marks.last().copied().unwrap_or(high).max(high),
            marks: marks.into_iter().map(|at| (at, plain(at))).collect(),
        }
    }

    /// Where a value lies on the drawn axis.
    #[must_use]
    pub fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(self.low * 1e-3).max(f64::MIN_POSITIVE).log10(),
        }
    }
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values = values.filter(|value| value.is_finite());
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high { (0.0, 1.0) } else { (low, high) }
}

/// About `number` round marks that hold `low` and `high` between them: steps of 1, 2 or 5 times a power of ten.
#[must_use]
pub fn ticks(low: f64, high: f64, number: usize) -> Vec<f64> {
    if !(low.is_finite() && high.is_finite()) || high <= low {
        return Vec::from([0.0, 1.0]);
    }
    let rough = (high - low) / crate::stats::count(number.max(1));
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(10.0 * power);
    let first = (low / step).floor();
    let mut marks = Vec::new();
    let mut index = 0.0;
    while marks.len() < 100 {
        let at = (first + index) * step;
        marks.push(at);
        if at >= high * (1.0 - 1e-12) {
            break;
        }
        index += 1.0;
    }
    marks
}

/// Marks at powers of ten, and at 2 and 5 times them where there are few.
#[must_use]
pub fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    if !(low > 0.0 && high > low && high.is_finite()) {
        return Vec::from([1.0, 10.0]);
    }
    let few = (high / low).log10() < 3.0;
    let factors: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut all = Vec::new();
    let mut power = low.log10().floor();
    while power <= high.log10().ceil() {
        all.extend(factors.iter().map(|factor| factor * 10f64.powf(power)));
        power += 1.0;
    }
    // From the last mark at or below the least value to the first one at or above the greatest.
    let from = all
        .iter()
        .rposition(|mark| *mark <= low * 1.000_001)
        .unwrap_or(0);
    let to = all
        .iter()
        .position(|mark| *mark >= high * 0.999_999)
        .unwrap_or(all.len() - 1);
    all[from..=to].to_vec()
}

/// A mark's text: as many decimals as it needs, thousands apart.
fn plain(value: f64) -> String {
    let text = if value.abs() >= 1_000.0 {
        let grouped = super::super::text::whole(crate::stats::rounded(value.abs()));
        return if value < 0.0 {
            format!("−{grouped}")
        } else {
            grouped
        };
    } else {
        format!("{value:.3}")
    };
    text.trim_end_matches('0')
        .trim_end_matches('.')
        .replace('-', "−")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn marks_are_round() {
        assert_eq!(ticks(0.0, 97.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(log_ticks(28.0, 310.0), [20.0, 50.0, 100.0, 200.0, 500.0]);
        assert_eq!(
            [plain(0.2), plain(1_500.0), plain(-3.0), plain(20.0)],
            ["0.2", "1,500", "−3", "20"]
        );
    }

    #[test]
    fn nothing_still_has_an_axis() {
        let axis = Axis::wide("ms", std::iter::empty(), 20.0, 5);
        assert!(axis.low < axis.high && !axis.marks.is_empty());
    }

    proptest! {
        #[test]
        fn marks_hold_the_values(values in prop::collection::vec(0.0f64..1e12, 1..20), span in 1.0f64..1e6) {
            for axis in [Axis::linear("", values.iter().copied(), 6), Axis::wide("", values.iter().copied(), span, 6)] {
                prop_assert!(axis.low < axis.high);
                prop_assert!((1..=100).contains(&axis.marks.len()));
                for value in &values {
                    prop_assert!(*value <= axis.high * 1.000_001);
                    prop_assert!(*value >= axis.low * 0.999_999 || (*value == 0.0 && axis.scale == Scale::Log));
                }
            }
        }
    }
}
