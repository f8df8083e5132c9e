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
    if let Ok(value) = HeaderValue::from_str(&server_timing(stages, watch.0.elapsed())) {
        response.headers_mut().insert("server-timing", value);
    }
    response
}

fn server_timing(stages: &Stages, total: Duration) -> String {
    let other = total.saturating_sub(stages.sum());
    let named = stages.taken().map(|(stage, time)| (stage.name(), time));
    let all = named.chain([("other", other), ("total", total)]);
    let entries = all.map(|(name, time)| format!("{name};dur={:.3}", time.as_secs_f64() * 1e3));
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
        let text = server_timing(&stages, Duration::from_millis(5));
        insta::assert_snapshot!(text, @"pool;dur=0.120, resume;dur=3.000, other;dur=1.880, total;dur=5.000");
    }
}
