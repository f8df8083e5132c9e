//! Timeout, refreshes, connect.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::wire::{ConnectRequest, RefreshRequest, TimeoutRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Body, Id};
use crate::api::sandboxes::wire::Sandbox;
use crate::api::{App, no_content};
use crate::ids::SandboxId;

pub async fn timeout(
    State(app): State<App>,
    Id(id): Id,
    body: Body<TimeoutRequest>,
) -> Result<Response, ApiError> {
    let seconds = body.value.check()?;
    // A sandbox that is being killed does not run any more; only connect tells the difference.
    let set = app.manager.set_timeout(&id, seconds).await;
    set.map_err(|_| ApiError::NoSandbox(id.to_string()))?;
    Ok(no_content())
}

pub async fn refresh(
    State(app): State<App>,
    Id(id): Id,
    body: Body<RefreshRequest>,
) -> Result<Response, ApiError> {
    let extended = app.manager.extend(&id, body.value.check()?).await;
    extended.map_err(|_| ApiError::NoSandbox(id.to_string()))?;
    Ok(no_content())
}

pub async fn connect_v1(
    State(app): State<App>,
    Id(id): Id,
    body: Body<ConnectRequest>,
) -> Result<Response, ApiError> {
    connect(&app, &id, body.value.check_v1()?).await
}

pub async fn connect_v2(
    State(app): State<App>,
    Id(id): Id,
    body: Body<ConnectRequest>,
) -> Result<Response, ApiError> {
    connect(&app, &id, body.value.check_v2()?).await
}

async fn connect(app: &App, id: &SandboxId, seconds: u32) -> Result<Response, ApiError> {
    let extended = app.manager.extend(id, seconds).await;
    let view = extended.map_err(|refusal| ApiError::refused(refusal, id.as_str()))?;
    let sandbox = Sandbox::new(&view, app.domain.as_deref());
    Ok(axum::Json(sandbox).into_response())
}
