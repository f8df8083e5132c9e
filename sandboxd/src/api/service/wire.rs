//! Constants of the service's own answers.

/// Body of `GET /health`.
pub const HEALTHY: &str = "ok";

/// Type of Prometheus' text format.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
