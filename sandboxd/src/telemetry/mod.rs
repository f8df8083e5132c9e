//! Counters, and the text in which Prometheus reads them; set-up of logging.
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `sandboxd_sandboxes` | gauge | `phase`: running, paused, ending |
//! | `sandboxd_sandboxes_created_total` | counter | |
//! | `sandboxd_sandbox_creates_failed_total` | counter | |
//! | `sandboxd_sandboxes_ended_total` | counter | `reason` |
//! | `sandboxd_memory_promised_mebibytes`, `…_limit_mebibytes` | gauge | |
//! | `sandboxd_create_stage_seconds` | histogram | `stage`: those of [`Stage`], and total |
//! | `sandboxd_pool_takes_total` | counter | `outcome`: hit (a process waited), miss (one had to be started) |
//! | `sandboxd_api_responses_total` | counter | `class`: 2xx, 3xx, 4xx, 5xx |
//! | `sandboxd_proxy_requests_total` | counter | `outcome`: forwarded, refused, unreachable |
//! | `sandboxd_proxy_active` | gauge | |
//!
//! Text format 0.0.4 of the Prometheus documentation.

mod histogram;
pub mod logging;

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::admission::{Limits, Used};
use crate::lifecycle::state::Reason;
use crate::machine::stages::{Stage, Stages};
use histogram::Histogram;

/// How a request to a sandbox went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest answered.
    Forwarded,
    /// The daemon answered in its place: no such sandbox, no token, too many connections.
    Refused,
    /// The guest could not be reached.
    Unreachable,
}

/// All counters.
#[derive(Debug, Default)]
pub struct Telemetry {
    created: AtomicU64,
    failed: AtomicU64,
    ended: [AtomicU64; Reason::ALL.len()],
    stages: [Histogram; Stage::ALL.len()],
    total: Histogram,
    takes: [AtomicU64; 2],
    responses: [AtomicU64; 4],
    proxied: [AtomicU64; 3],
    active: AtomicI64,
}

impl Telemetry {
    /// A sandbox was created.
    pub fn created(&self, stages: &Stages) {
        add(&self.created);
        for (stage, histogram) in Stage::ALL.into_iter().zip(&self.stages) {
            if let Some(time) = stages.of(stage) {
                histogram.record(time);
            }
        }
        self.total.record(stages.sum());
        let [hits, misses] = &self.takes;
        match (stages.of(Stage::Pool), stages.of(Stage::Spawn)) {
            (_, Some(_)) => add(misses),
            (Some(_), None) => add(hits),
            (None, None) => {}
        }
    }

    /// A sandbox could not be created.
    pub fn create_failed(&self) {
        add(&self.failed);
    }

    /// A sandbox ended.
    pub fn ended(&self, reason: Reason) {
        for (known, count) in Reason::ALL.iter().zip(&self.ended) {
            if *known == reason {
                add(count);
            }
        }
    }

    /// The API answered.
    pub fn responded(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(count) = class.checked_sub(2).and_then(|i| self.responses.get(i)) {
            add(count);
        }
    }

    /// A request to a sandbox was handled.
    pub fn proxied(&self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Forwarded => &self.proxied[0],
            Outcome::Refused => &self.proxied[1],
            Outcome::Unreachable => &self.proxied[2],
        };
        add(count);
    }

    /// A request or connection to a sandbox begins (1) or ends (-1).
    pub fn active(&self, change: i64) {
        self.active.fetch_add(change, Ordering::Relaxed);
    }

    /// The counters as text, with the books and the number of sandboxes that are paused.
    pub fn render(&self, used: Used, limits: Limits, paused: usize) -> String {
        let mut text = String::new();
        let out = &mut text;
        let running = used.sandboxes.saturating_sub(used.ending);
        metric(out, "sandboxes", "gauge", "Sandboxes that exist now.");
        line(out, "sandboxes", "{phase=\"running\"}", running);
        line(out, "sandboxes", "{phase=\"paused\"}", paused);
        line(out, "sandboxes", "{phase=\"ending\"}", used.ending);
        metric(
            out,
            "sandboxes_created_total",
            "counter",
            "Sandboxes created.",
        );
        line(out, "sandboxes_created_total", "", get(&self.created));
        metric(
            out,
            "sandbox_creates_failed_total",
            "counter",
            "Creates that failed.",
        );
        line(out, "sandbox_creates_failed_total", "", get(&self.failed));
        metric(
            out,
            "sandboxes_ended_total",
            "counter",
            "Sandboxes ended, by reason.",
        );
        for (reason, count) in Reason::ALL.iter().zip(&self.ended) {
            let label = format!("{{reason=\"{}\"}}", reason.name());
            line(out, "sandboxes_ended_total", &label, get(count));
        }
        metric(
            out,
            "memory_promised_mebibytes",
            "gauge",
            "Memory promised to sandboxes.",
        );
        line(out, "memory_promised_mebibytes", "", used.memory_mib);
        metric(
            out,
            "memory_limit_mebibytes",
            "gauge",
            "Memory that may be promised.",
        );
        line(out, "memory_limit_mebibytes", "", limits.memory_mib);
        metric(
            out,
            "create_stage_seconds",
            "histogram",
            "Time per stage of a create.",
        );
        let name = "sandboxd_create_stage_seconds";
        for (stage, histogram) in Stage::ALL.into_iter().zip(&self.stages) {
            histogram.render(out, name, stage.name());
        }
        self.total.render(out, name, "total");
        metric(
            out,
            "pool_takes_total",
            "counter",
            "Starts, by whether a process waited for them.",
        );
        for (outcome, count) in ["hit", "miss"].iter().zip(&self.takes) {
            let label = format!("{{outcome=\"{outcome}\"}}");
            line(out, "pool_takes_total", &label, get(count));
        }
        metric(
            out,
            "api_responses_total",
            "counter",
            "Answers of the API, by status class.",
        );
        for (class, count) in ["2xx", "3xx", "4xx", "5xx"].iter().zip(&self.responses) {
            line(
                out,
                "api_responses_total",
                &format!("{{class=\"{class}\"}}"),
                get(count),
            );
        }
        metric(
            out,
            "proxy_requests_total",
            "counter",
            "Requests to sandboxes, by outcome.",
        );
        for (outcome, count) in ["forwarded", "refused", "unreachable"]
            .iter()
            .zip(&self.proxied)
        {
            line(
                out,
                "proxy_requests_total",
                &format!("{{outcome=\"{outcome}\"}}"),
                get(count),
            );
        }
        metric(
            out,
            "proxy_active",
            "gauge",
            "Requests and connections to sandboxes now.",
        );
        line(out, "proxy_active", "", self.active.load(Ordering::Relaxed));
        text
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn metric(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(
        out,
        "# HELP sandboxd_{name} {help}\n# TYPE sandboxd_{name} {kind}"
    );
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "sandboxd_{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Limits, Outcome, Reason, Stage, Stages, Telemetry, Used};

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let telemetry = Telemetry::default();
        let ms = Duration::from_millis;
        let mut stages = Stages::default();
        stages.add(Stage::Spawn, ms(3));
        stages.add(Stage::Boot, ms(30));
        stages.add(Stage::Agent, ms(700));
        stages.add(Stage::Configure, ms(2));
        telemetry.created(&stages);
        telemetry.create_failed();
        telemetry.ended(Reason::Expired);
        telemetry.responded(http::StatusCode::CREATED);
        telemetry.proxied(Outcome::Unreachable);
        telemetry.active(2);
        let used = Used {
            sandboxes: 3,
            memory_mib: 1_728,
            ending: 1,
        };
        let limits = Limits {
            sandboxes: 10,
            memory_mib: 8_192,
        };
        insta::assert_snapshot!(telemetry.render(used, limits, 2));
    }
}
