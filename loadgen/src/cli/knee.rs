//! Where a sweep bends.
//!
//! Kleinrock's power is throughput divided by response time: before the knee throughput grows faster than latency, behind it
//! latency grows faster than throughput. A step with an offered rate is *borne* when at least 95 in a hundred of what was offered
//! came back as successes.

use crate::live::line::ms;

/// Share of the offered rate that has to come back.
const BORNE: f64 = 0.95;
/// Share of failures up to which a step counts.
const BAD: f64 = 0.01;

/// One step of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// What was asked.
    pub name: String,
    /// Arrivals a second, where they were on a schedule.
    pub offered: Option<f64>,
    /// Successes a second.
    pub achieved: f64,
    /// Median latency.
    pub latency_ns: u64,
    /// Failures and drops.
    pub bad: u64,
    /// All turns.
    pub turns: u64,
}

impl Point {
    #[expect(clippy::cast_precision_loss, reason = "shares and rates")]
    fn power(&self) -> f64 {
        self.achieved / self.latency_ns.max(1) as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "shares and rates")]
    fn is_good(&self) -> bool {
        let few = self.bad as f64 <= BAD * self.turns as f64;
        few && self
            .offered
            .is_none_or(|offered| self.achieved >= BORNE * offered)
    }
}

/// A sentence.
#[must_use]
pub fn knee(points: &[Point]) -> String {
    let best = points.iter().filter(|point| point.is_good());
    let best = best.max_by(|a, b| a.power().total_cmp(&b.power()));
    let Some(best) = best else {
        return "No step was borne: each had more than 1 % failures or fell behind what was offered.".to_owned();
    };
    let unborne: Vec<&str> = points
        .iter()
        .filter(|point| !point.is_good())
        .map(|point| point.name.as_str())
        .collect();
    let last = points.last().is_some_and(|last| last.name == best.name);
    let open = if last {
        " It is the last step: the real one may lie beyond."
    } else {
        ""
    };
    let mut told = format!(
        "The knee (greatest throughput / latency) is at {}: {:.1}/s at a median of {} ms.{open}",
        best.name,
        best.achieved,
        ms(best.latency_ns)
    );
    if !unborne.is_empty() {
        told.push_str(&format!(" Not borne: {}.", unborne.join(", ")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with `slots` at `work_ms` each, asked by `workers`.
    fn closed(workers: u32, slots: u32, work_ms: u32) -> Point {
        let rounds = workers.div_ceil(slots);
        let busy = f64::from(workers.min(slots));
        Point {
            name: format!("closed:{workers}"),
            offered: None,
            achieved: busy / (f64::from(work_ms) / 1e3),
            latency_ns: u64::from(work_ms * rounds) * 1_000_000,
            bad: 0,
            turns: 100,
        }
    }

    #[test]
    fn the_knee_of_a_server_with_ten_slots_is_at_ten() {
        let points: Vec<Point> = [1, 5, 10, 20, 50].map(|n| closed(n, 10, 20)).into();
        insta::assert_snapshot!(knee(&points), @"The knee (greatest throughput / latency) is at closed:10: 500.0/s at a median of 20.0 ms.");
        insta::assert_snapshot!(knee(&points[..3]), @"The knee (greatest throughput / latency) is at closed:10: 500.0/s at a median of 20.0 ms. It is the last step: the real one may lie beyond.");
    }

    #[test]
    fn a_rate_that_is_not_borne_is_no_knee() {
        let point = |offered: f64, achieved: f64, latency_ms: u64, bad| Point {
            name: format!("poisson:{offered}"),
            offered: Some(offered),
            achieved,
            latency_ns: latency_ms * 1_000_000,
            bad,
            turns: 200,
        };
        let points = [
            point(10.0, 10.0, 20, 0),
            point(40.0, 39.0, 25, 0),
            point(80.0, 60.0, 5, 0),
            point(90.0, 90.0, 5, 40),
        ];
        insta::assert_snapshot!(knee(&points), @"The knee (greatest throughput / latency) is at poisson:40: 39.0/s at a median of 25.0 ms. Not borne: poisson:80, poisson:90.");
        assert!(knee(&points[2..]).starts_with("No step was borne"));
    }
}
