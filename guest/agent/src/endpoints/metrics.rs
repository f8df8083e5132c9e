//! `GET /metrics`: resource use right now.

use std::sync::Arc;

use agent_protocol::control::Metrics;
use axum::Json;
use axum::extract::State;

use crate::agent::Agent;

/// Answers with a new reading.
pub async fn get(State(agent): State<Arc<Agent>>) -> Json<Metrics> {
    Json(agent.sampler.read())
}
