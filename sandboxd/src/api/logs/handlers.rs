//! Logs in both versions. Events outlive their sandbox for a while; a sandbox without any is not known.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::wire::{
    FirstQuery, LogEntry, LogLine, SandboxLogs, SandboxLogsV2, SecondQuery, Selection,
};
use crate::api::App;
use crate::api::error::ApiError;
use crate::api::extract::{Id, Params};
use crate::ids::SandboxId;
use crate::moment::Moment;

/// Events read per sandbox: far more than one can have.
const EVENTS: u32 = 10_000;

pub async fn first(
    State(app): State<App>,
    Id(id): Id,
    Params(query): Params<FirstQuery>,
) -> Result<Response, ApiError> {
    let log_entries = entries(&app, id, &query.check()?).await?;
    let logs = log_entries.iter().map(LogLine::from).collect();
    Ok(axum::Json(SandboxLogs { logs, log_entries }).into_response())
}

pub async fn second(
    State(app): State<App>,
    Id(id): Id,
    Params(query): Params<SecondQuery>,
) -> Result<Response, ApiError> {
    let logs = entries(&app, id, &query.check()?).await?;
    Ok(axum::Json(SandboxLogsV2 { logs }).into_response())
}

async fn entries(
    app: &App,
    id: SandboxId,
    selection: &Selection,
) -> Result<Vec<LogEntry>, ApiError> {
    let store = app.manager.store();
    let events = store
        .events(id.clone(), Moment::from_micros(0), EVENTS)
        .await?;
    if events.is_empty() && app.manager.known(&id).is_none() {
        return Err(ApiError::NoSandbox(id.to_string()));
    }
    Ok(selection.select(events))
}
