//! Fork.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::wire::{Fork, ForkRequest};
use crate::api::App;
use crate::api::error::ApiError;
use crate::api::extract::{Body, Id};
use crate::api::sandboxes::wire::Sandbox;

pub async fn fork(
    State(app): State<App>,
    Id(id): Id,
    body: Body<ForkRequest>,
) -> Result<Response, ApiError> {
    let longest = app.manager.bounds().longest_life;
    let limit = app.manager.admission().limits().sandboxes;
    let (count, timeout) = body.value.check(longest, limit)?;
    let forked = app.manager.fork(&id, count, timeout).await;
    let children = forked.map_err(|error| ApiError::captured(error, &id))?;
    let forks: Vec<_> = children
        .into_iter()
        .map(|child| match child {
            Ok(created) => Fork::Sandbox(Sandbox::new(&created.view, app.domain.as_deref())),
            Err(error) => Fork::Error(ApiError::from(error).body()),
        })
        .collect();
    Ok((StatusCode::CREATED, axum::Json(forks)).into_response())
}
