//! Replacing network options.

use axum::extract::State;
use axum::response::Response;

use super::wire::shown;
use crate::api::error::ApiError;
use crate::api::extract::{Body, Id};
use crate::api::{App, no_content};
use crate::egress::options::NetworkUpdate;
use crate::lifecycle::manager::NetworkError;

pub async fn replace(
    State(app): State<App>,
    Id(id): Id,
    body: Body<NetworkUpdate>,
) -> Result<Response, ApiError> {
    let update = body.value;
    let policy = update.check(app.default_egress)?;
    let gone = || ApiError::NoSandbox(id.to_string());
    let sandbox = app.manager.known(&id).ok_or_else(gone)?;
    let former = sandbox.lock().network.wire.clone();
    let wire = shown(former.as_ref(), &update);
    let replaced = app
        .manager
        .set_network(&id, policy, update.allow_internet_access, wire)
        .await;
    replaced.map_err(|error| match error {
        NetworkError::NotFound => gone(),
        NetworkError::NotRunning => ApiError::NotRunning(id.to_string()),
        other => other.into(),
    })?;
    Ok(no_content())
}
