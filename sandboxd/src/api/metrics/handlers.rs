//! Metrics of one sandbox and of many.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::wire::{Ids, LatestMetrics, SandboxMetric, Window};
use crate::api::App;
use crate::api::error::ApiError;
use crate::api::extract::{Id, Params};
use crate::lifecycle::sampling;

pub async fn of_one(
    State(app): State<App>,
    Id(id): Id,
    Params(window): Params<Window>,
) -> Result<Response, ApiError> {
    let gone = || ApiError::NoSandbox(id.to_string());
    let sandbox = app.manager.known(&id).ok_or_else(gone)?;
    if sampling::sample(&sandbox).await.is_err() && sandbox.samples().is_empty() {
        let still_there = app.manager.known(&id).is_some();
        return Err(if still_there {
            ApiError::GuestSilent(id.to_string())
        } else {
            gone()
        });
    }
    let samples = sandbox.samples();
    let inside = samples.iter().filter(|sample| window.holds(sample));
    let metrics: Vec<SandboxMetric> = inside.map(SandboxMetric::from).collect();
    Ok(axum::Json(metrics).into_response())
}

pub async fn of_many(
    State(app): State<App>,
    Params(ids): Params<Ids>,
) -> Result<Response, ApiError> {
    let mut sandboxes = BTreeMap::new();
    for id in ids.check()? {
        let Some(sandbox) = app.manager.known(&id) else {
            continue;
        };
        if sandbox.samples().is_empty() {
            let _ = sampling::sample(&sandbox).await;
        }
        if let Some(latest) = sandbox.samples().last() {
            sandboxes.insert(id.to_string(), SandboxMetric::from(latest));
        }
    }
    Ok(axum::Json(LatestMetrics { sandboxes }).into_response())
}
