//! The stages of a start in the answer to whoever asked for it: the `Server-Timing` header (W3C Server Timing; durations in
//! milliseconds).
//!
//! ```text
//!   queue;dur=0.012, store;dur=0.3, …, configure;dur=9.1, other;dur=0.4, total;dur=41.2
//! ```
//!
//! The entries up to `other` add up to `total`, the time from the request's head to the answer's.

use std::time::{Duration, Instant};

use axum::response::Response;
use http::HeaderValue;

use crate::machine::Written;
use crate::machine::stages::Stages;

/// When work on a request began.
#[derive(Clone, Copy, Debug)]
pub struct Watch(Instant);

impl Watch {
    /// It begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

/// An answer with the stages of what was done for it, since `watch`.
pub fn timed(mut response: Response, stages: &Stages, watch: Watch) -> Response {
    let taken = stages.taken().map(|(stage, time)| (stage.name(), time));
    put(&mut response, &server_timing(taken, watch.0.elapsed()));
    response
}

/// An answer with the stages that a machine names of what was done for it, since `watch`.
pub fn timed_by(mut response: Response, written: &Written, watch: Watch) -> Response {
    let stages = written.stages.iter();
    let taken = stages.map(|(name, time)| (name.as_str(), *time));
    put(&mut response, &server_timing(taken, watch.0.elapsed()));
    response
}

fn put(response: &mut Response, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert("server-timing", value);
    }
}

fn server_timing<'a>(stages: impl Iterator<Item = (&'a str, Duration)>, total: Duration) -> String {
    let mut all: Vec<_> = stages.collect();
    let sum = all.iter().map(|(_, time)| *time).sum();
    all.extend([("other", total.saturating_sub(sum)), ("total", total)]);
    let entries = all
        .iter()
        .map(|(name, time)| format!("{name};dur={:.3}", time.as_secs_f64() * 1e3));
    entries.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::stages::Stage;

    #[test]
    fn what_is_left_has_an_entry_of_its_own() {
        let mut stages = Stages::default();
        stages.add(Stage::Pool, Duration::from_micros(120));
        stages.add(Stage::Resume, Duration::from_millis(3));
        let taken = stages.taken().map(|(stage, time)| (stage.name(), time));
        let text = server_timing(taken, Duration::from_millis(5));
        insta::assert_snapshot!(text, @"pool;dur=0.120, resume;dur=3.000, other;dur=1.880, total;dur=5.000");
    }
}
