//! Arrivals as they were recorded.
//!
//! A trace is a text with one arrival a line: seconds from its beginning (`12.25`), or an object with `planned_ns` as in
//! `samples.jsonl` of an earlier run. Lines that are empty or begin with `#` are passed over. Arrivals need not be in order.

use std::time::Duration;

use super::{Pacer, seconds};

/// Most arrivals that a trace may have.
pub const MAX_ARRIVALS: usize = 10_000_000;

/// Why a text is no trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// A line that is no arrival.
    #[error(
        "line {line} is neither a number of seconds, 0 or more, nor an object with `planned_ns`"
    )]
    Line {
        /// From 1.
        line: usize,
    },
    /// Nothing to replay.
    #[error("it holds no arrival")]
    Empty,
    /// Beyond reason.
    #[error("it holds more than {MAX_ARRIVALS} arrivals")]
    Long,
}

#[derive(serde::Deserialize)]
struct Planned {
    planned_ns: u64,
}

/// Reads a trace. The first arrival becomes due at once, the others as long after it as they were.
///
/// # Errors
/// See [`TraceError`].
pub fn parse(text: &str) -> Result<Vec<Duration>, TraceError> {
    let mut dues = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if dues.len() == MAX_ARRIVALS {
            return Err(TraceError::Long);
        }
        let wrong = TraceError::Line { line: index + 1 };
        dues.push(arrival(line).ok_or(wrong)?);
    }
    let first = dues.iter().min().copied().ok_or(TraceError::Empty)?;
    for due in &mut dues {
        *due -= first;
    }
    dues.sort_unstable();
    Ok(dues)
}

fn arrival(line: &str) -> Option<Duration> {
    if line.starts_with('{') {
        let planned: Planned = serde_json::from_str(line).ok()?;
        return Some(Duration::from_nanos(planned.planned_ns));
    }
    let number: f64 = line.parse().ok()?;
    Duration::try_from_secs_f64(number).ok()
}

/// The pacer.
#[derive(Debug, Clone)]
pub struct Trace {
    dues: Vec<Duration>,
    speed: f64,
}

impl Trace {
    /// Replays `dues`, `speed` times as fast as they were (above 0).
    #[must_use]
    pub fn new(mut dues: Vec<Duration>, speed: f64) -> Self {
        dues.sort_unstable();
        Self { dues, speed }
    }
}

impl Pacer for Trace {
    fn due(&mut self, sent: u64) -> Option<Duration> {
        let due = self.dues.get(usize::try_from(sent).ok()?)?;
        Some(seconds(due.as_secs_f64() / self.speed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read_and_begin_at_once() {
        let text = "# of a Tuesday\n3.5\n\n{\"planned_ns\":2500000000,\"sent_ns\":1}\n4\n";
        let millis: Vec<u128> = parse(text)
            .unwrap()
            .iter()
            .map(Duration::as_millis)
            .collect();
        assert_eq!(millis, [0, 1000, 1500]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert_eq!(parse("1\nsoon\n"), Err(TraceError::Line { line: 2 }));
        assert_eq!(parse("-1"), Err(TraceError::Line { line: 1 }));
        assert_eq!(parse("{\"planned\":1}"), Err(TraceError::Line { line: 1 }));
        assert_eq!(parse("# nothing\n"), Err(TraceError::Empty));
    }

    #[test]
    fn twice_as_fast_takes_half_the_time() {
        let mut pacer = Trace::new(vec![Duration::from_secs(4), Duration::ZERO], 2.0);
        assert_eq!(pacer.due(1), Some(Duration::from_secs(2)));
        assert_eq!(pacer.due(2), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
