//! Checkpoints and rollback.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::wire::{Checkpoint, CheckpointRequest, RollbackRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Body, Id};
use crate::api::timing::{Watch, timed_by};
use crate::api::{App, no_content};
use crate::ids::SandboxId;
use crate::lifecycle::rollback::RollbackError;
use crate::machine::RollbackError as MachineError;

pub async fn take(
    State(app): State<App>,
    Id(id): Id,
    body: Body<CheckpointRequest>,
) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let name = body.value.check()?;
    let taken = app.manager.checkpoint(&id, name).await;
    let taken = taken.map_err(|error| ApiError::captured(error, &id))?;
    let checkpoint = Checkpoint::from(&taken.row);
    let response = (StatusCode::CREATED, axum::Json(checkpoint)).into_response();
    Ok(timed_by(response, &taken.written, watch))
}

pub async fn list(State(app): State<App>, Id(id): Id) -> Result<Response, ApiError> {
    let rows = app.manager.checkpoints(&id).await?;
    let rows = rows.ok_or_else(|| ApiError::NoSandbox(id.to_string()))?;
    let listed: Vec<_> = rows.iter().map(Checkpoint::from).collect();
    Ok(axum::Json(listed).into_response())
}

pub async fn remove(
    State(app): State<App>,
    Path((sandbox, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let shown = |text: &str| text.chars().take(64).collect();
    let gone = || ApiError::NoSandbox(shown(&sandbox));
    let id = SandboxId::parse(&sandbox).ok_or_else(gone)?;
    app.manager.known(&id).ok_or_else(gone)?;
    if app.manager.delete_checkpoint(&id, &name).await? {
        Ok(no_content())
    } else {
        Err(ApiError::NoCheckpoint(shown(&name)))
    }
}

pub async fn roll_back(
    State(app): State<App>,
    Id(id): Id,
    body: Body<RollbackRequest>,
) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let name = body.value.checkpoint;
    let rolled = app.manager.roll_back(&id, &name).await;
    let written = rolled.map_err(|error| failed(error, &id, &name))?;
    Ok(timed_by(no_content(), &written, watch))
}

fn failed(error: RollbackError, id: &SandboxId, name: &str) -> ApiError {
    match error {
        RollbackError::Refused(refusal) => ApiError::refused(refusal, id.as_str()),
        RollbackError::NoCheckpoint => ApiError::NoCheckpoint(name.chars().take(64).collect()),
        RollbackError::Aborted => ApiError::NoSandbox(id.to_string()),
        RollbackError::Machine(MachineError::Refused(_)) => ApiError::NotRolledBack(id.to_string()),
        RollbackError::Machine(MachineError::Lost(_)) => ApiError::Lost(id.to_string()),
        RollbackError::Template(error) => error.into(),
        RollbackError::Store(error) => error.into(),
    }
}
