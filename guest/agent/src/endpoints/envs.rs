//! `GET /envs`: the sandbox's global environment as one flat object. The code interpreter seeds its contexts with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::agent::Agent;

/// Answers with the global environment.
pub async fn get(State(agent): State<Arc<Agent>>) -> Json<BTreeMap<String, String>> {
    Json(agent.state.settings().env.clone())
}
