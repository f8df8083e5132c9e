//! A histogram of durations with fixed buckets, counted without locks.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in milliseconds.
const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// Counts per bucket, and the sum.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative; the last holds what is above all bounds.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let index = BOUNDS_MS.partition_point(|bound| bound * 1_000 < micros);
        self.buckets[index].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Writes the cumulative buckets, sum and count.
    pub fn render(&self, out: &mut String, name: &str, stage: &str) {
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = BOUNDS_MS
                .get(index)
                .map_or("+Inf".to_owned(), |ms| seconds(ms * 1_000));
            let _ = writeln!(
                out,
                "{name}_bucket{{stage=\"{stage}\",le=\"{bound}\"}} {count}"
            );
        }
        let sum = seconds(self.sum_micros.load(Ordering::Relaxed));
        let _ = writeln!(out, "{name}_sum{{stage=\"{stage}\"}} {sum}");
        let _ = writeln!(out, "{name}_count{{stage=\"{stage}\"}} {count}");
    }
}

/// Microseconds as decimal seconds without trailing zeros.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Histogram, seconds};

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(10));
        histogram.record(Duration::from_micros(10_001));
        histogram.record(Duration::from_secs(60));
        let mut text = String::new();
        histogram.render(&mut text, "h", "s");
        assert!(text.contains("le=\"0.005\"} 0\n"));
        assert!(text.contains("le=\"0.01\"} 1\n"));
        assert!(text.contains("le=\"0.025\"} 2\n"));
        assert!(text.contains("le=\"30\"} 2\n"));
        assert!(text.contains("le=\"+Inf\"} 3\n"));
        assert!(text.contains("h_sum{stage=\"s\"} 60.020001\n"));
    }

    #[test]
    fn seconds_are_decimal() {
        assert_eq!(seconds(0), "0");
        assert_eq!(seconds(2_500), "0.0025");
        assert_eq!(seconds(3_000_000), "3");
    }
}
