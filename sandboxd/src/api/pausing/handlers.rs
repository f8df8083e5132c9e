//! Pause, resume.

use axum::extract::State;
use axum::response::Response;

use super::wire::{PauseRequest, ResumeRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Body, Id};
use crate::api::sandboxes::handlers::answer;
use crate::api::timing::{Watch, timed_by};
use crate::api::{App, no_content};
use crate::lifecycle::state::OnTimeout;

pub async fn pause(
    State(app): State<App>,
    Id(id): Id,
    body: Body<PauseRequest>,
) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let memory = body.value.memory.unwrap_or(true);
    let paused = app.manager.pause(&id, memory).await;
    let written = paused.map_err(|error| ApiError::captured(error, &id))?;
    Ok(timed_by(no_content(), &written, watch))
}

pub async fn resume(
    State(app): State<App>,
    Id(id): Id,
    body: Body<ResumeRequest>,
) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let seconds = body.value.check(app.manager.bounds().longest_life)?;
    if let Some(auto_pause) = body.value.auto_pause
        && let Some(view) = app.manager.known(&id).and_then(|sandbox| sandbox.view())
        && auto_pause != matches!(view.on_timeout, OnTimeout::Pause { .. })
    {
        return Err(ApiError::Field {
            field: "autoPause",
            why: "it cannot be changed once a sandbox is created".to_owned(),
        });
    }
    let memory = body.value.memory.unwrap_or(true);
    let resumed = app.manager.resume(&id, seconds, memory).await;
    let created = resumed.map_err(|error| ApiError::resumed(error, &id))?;
    Ok(answer(&app, &created, watch))
}
