//! Replacing network options.

use axum::extract::State;
use axum::response::Response;

use super::wire::shown;
use crate::api::error::ApiError;
use crate::api::extract::{Body, Id};
use crate::api::{App, no_content};
use crate::egress::options::NetworkUpdate;
use crate::lifecycle::sandbox::Network;

pub async fn replace(
    State(app): State<App>,
    Id(id): Id,
    body: Body<NetworkUpdate>,
) -> Result<Response, ApiError> {
    let update = body.value;
    let policy = update.check(app.default_egress, &app.services)?;
    let gone = || ApiError::NoSandbox(id.to_string());
    let sandbox = app.manager.known(&id).ok_or_else(gone)?;
    let former = sandbox.lock().network.wire.clone();
    let wire = shown(former.as_ref(), &update);
    let network = Network {
        policy,
        allow_internet_access: update.allow_internet_access,
        wire: Some(wire),
    };
    let replaced = app.manager.set_network(&id, network).await;
    replaced.map_err(|error| ApiError::not_replaced(&error, &id))?;
    Ok(no_content())
}
