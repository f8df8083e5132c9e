//! Take, list, delete; and finding the snapshot that a create names.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};

use super::wire::{ListQuery, SnapshotInfo, SnapshotRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Body, Id, Name, Params};
use crate::api::fields::{shortened, template, unknown_template};
use crate::api::sandboxes::wire::Base;
use crate::api::timing::{Watch, timed_by};
use crate::api::{App, no_content};
use crate::lifecycle::sandbox::Origin;
use crate::lifecycle::snapshots::DeleteError;
use crate::machine::Source;
use crate::templates::Reference;

pub async fn take(
    State(app): State<App>,
    Id(id): Id,
    body: Body<SnapshotRequest>,
) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let name = body
        .value
        .check(|name| app.templates.resolve(name).is_some())?;
    let memory = body.value.memory.unwrap_or(true);
    let taken = app.manager.take_snapshot(&id, name, memory).await;
    let taken = taken.map_err(|error| ApiError::captured(error, &id))?;
    let info = taken.row.label.as_ref().map(SnapshotInfo::from);
    let response = (StatusCode::CREATED, axum::Json(info)).into_response();
    Ok(timed_by(response, &taken.written, watch))
}

pub async fn list(
    State(app): State<App>,
    Params(query): Params<ListQuery>,
) -> Result<Response, ApiError> {
    let selection = query.check()?;
    let page = selection.page(app.manager.store().named_snapshots().await?);
    let mut response = axum::Json(page.infos).into_response();
    if let Some(token) = page.next_token.and_then(|t| HeaderValue::from_str(&t).ok()) {
        response.headers_mut().insert("x-next-token", token);
    }
    Ok(response)
}

pub async fn remove(State(app): State<App>, Name(name): Name) -> Result<Response, ApiError> {
    let reference = template("template", &name)?;
    if app.templates.resolve(&reference).is_some() {
        return Err(ApiError::Feature("Deleting a template that is no snapshot"));
    }
    let deleted = app.manager.delete_snapshot(&reference).await;
    deleted.map_err(|error| match error {
        DeleteError::NotFound => unknown_template(&name),
        DeleteError::InUse(sandbox) => ApiError::SnapshotInUse {
            snapshot: shortened(&name),
            sandbox: sandbox.to_string(),
        },
        DeleteError::Store(error) => error.into(),
    })?;
    Ok(no_content())
}

/// The snapshot that a create names, as what its sandbox begins from.
pub async fn find(app: &App, reference: &Reference) -> Result<Option<Base>, ApiError> {
    let Some(row) = app.manager.find_snapshot(reference).await? else {
        return Ok(None);
    };
    let template = app.manager.template_behind(&row)?;
    Ok(row.label.zip(row.known).map(|(label, known)| Base {
        template,
        source: if row.memory {
            Source::Memory(row.id.clone())
        } else {
            Source::Disk(row.id.clone())
        },
        origin: Some(Origin {
            snapshot: row.id,
            family: label.family,
            name: label.name,
        }),
        env: known.facts.env,
    }))
}
