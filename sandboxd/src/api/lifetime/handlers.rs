//! Timeout, refreshes, connect.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::wire::{ConnectRequest, RefreshRequest, TimeoutRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Body, Id};
use crate::api::sandboxes::handlers::answer;
use crate::api::sandboxes::wire::Sandbox;
use crate::api::timing::Watch;
use crate::api::{App, no_content};
use crate::ids::SandboxId;
use crate::lifecycle::resume::Connected;
use crate::lifecycle::state::Refusal;

pub async fn timeout(
    State(app): State<App>,
    Id(id): Id,
    body: Body<TimeoutRequest>,
) -> Result<Response, ApiError> {
    let seconds = body.value.check()?;
    let set = app.manager.set_timeout(&id, seconds).await;
    set.map_err(|refusal| not_running(refusal, &id))?;
    Ok(no_content())
}

pub async fn refresh(
    State(app): State<App>,
    Id(id): Id,
    body: Body<RefreshRequest>,
) -> Result<Response, ApiError> {
    let extended = app.manager.extend(&id, body.value.check()?).await;
    extended.map_err(|refusal| not_running(refusal, &id))?;
    Ok(no_content())
}

/// A sandbox that is paused or being killed does not run; only connect tells the difference.
fn not_running(refusal: Refusal, id: &SandboxId) -> ApiError {
    match refusal {
        Refusal::InTransition => ApiError::InTransition(id.to_string()),
        _ => ApiError::NoSandbox(id.to_string()),
    }
}

pub async fn connect_v1(
    State(app): State<App>,
    Id(id): Id,
    body: Body<ConnectRequest>,
) -> Result<Response, ApiError> {
    connect(&app, &id, body.value.check_v1()?, true).await
}

pub async fn connect_v2(
    State(app): State<App>,
    Id(id): Id,
    body: Body<ConnectRequest>,
) -> Result<Response, ApiError> {
    let memory = body.value.memory.unwrap_or(true);
    connect(&app, &id, body.value.check_v2()?, memory).await
}

async fn connect(
    app: &App,
    id: &SandboxId,
    seconds: u32,
    memory: bool,
) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let connected = app.manager.connect(id, seconds, memory).await;
    match connected.map_err(|error| ApiError::resumed(error, id))? {
        Connected::Running(view) => {
            let sandbox = Sandbox::new(&view, app.domain.as_deref());
            Ok(axum::Json(sandbox).into_response())
        }
        Connected::Resumed(created) => Ok(answer(app, &created, watch)),
    }
}
