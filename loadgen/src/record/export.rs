//! Distributions as files that HDR tools read.

use std::time::SystemTime;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::collector::{Collector, file_stem};
use super::histogram::hgrm;
use reports::model::load::Unit;

/// The V2 interval log (`.hlog`) of a series; its tag is the series' name, greatest values are in milliseconds.
///
/// # Errors
/// When a histogram cannot be serialized.
pub fn hlog(collector: &Collector, began: SystemTime) -> std::io::Result<String> {
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let name = file_stem(&collector.heading.name);
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(divisor(collector.heading.unit))
        .begin_log_with(&mut out, &mut serializer)?;
    let length = collector.timeline.length();
    for (cell, index) in collector.timeline.cells().iter().zip(0u32..) {
        if let Some(values) = &cell.values {
            log.write_histogram(values, length * index, length, Tag::new(&name))
                .map_err(|error| std::io::Error::other(error.to_string()))?;
        }
    }
    drop(log);
    String::from_utf8(out).map_err(std::io::Error::other)
}

/// The percentile text form (`.hgrm`) of a series, in milliseconds where it is of times.
#[must_use]
pub fn percentiles(collector: &Collector) -> String {
    hgrm(&collector.values, divisor(collector.heading.unit))
}

fn divisor(unit: Unit) -> f64 {
    match unit {
        Unit::Nanoseconds => 1e6,
        Unit::BytesPerSecond | Unit::Bytes => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::record::collector::{Heading, Turn};

    #[test]
    fn the_interval_log_is_read_back_by_hdr_tools() {
        let mut collector = Collector::new(Heading {
            name: "a".to_owned(),
            metric: "exec".to_owned(),
            clock: None,
            unit: Unit::Nanoseconds,
            dimensions: BTreeMap::new(),
            model: "constant".to_owned(),
            closed_loop: false,
            offered_per_s: None,
            keep_rounds: false,
        });
        for n in 0..100u64 {
            let planned = Duration::from_millis(n * 50);
            let turn = Turn {
                round: 0,
                planned,
                ended: planned,
                in_flight: 1,
                stages: &[],
            };
            collector.ok(turn, 1_000_000 * (n + 1));
        }
        let log = hlog(
            &collector,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        )
        .unwrap();
        let mut all: Histogram<u64> = Histogram::new(3).unwrap();
        let mut starts = Vec::new();
        for entry in IntervalLogIterator::new(log.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
                let read: Histogram<u64> =
                    Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                all.add(read).unwrap();
                starts.push(interval.start_timestamp().as_secs());
                assert_eq!(interval.tag().unwrap().as_str(), "a");
            }
        }
        assert_eq!(starts, [0, 1, 2, 3, 4]);
        assert_eq!(all.len(), 100);
        assert!(all.equivalent(
            all.value_at_quantile(0.5),
            collector.values.value_at_quantile(0.5)
        ));
        assert!(
            log.starts_with("#[Histogram log format version 1.3]\n#[StartTime: 1700000000.000")
        );
    }
}
