//! `POST /init`: envd's own way to hand over settings. The daemon uses `configure` over vsock instead; this route is
//! for orchestrators that speak envd's HTTP, and the daemon's proxy keeps it from the outside.
//!
//! When the sandbox has a token, the body must carry the same one: a program in the guest cannot take the sandbox over.
//! Members that ask for something this agent does not do are refused by name, never ignored.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;

use crate::agent::{Agent, identity_variables, with_identity};
use crate::auth::AuthError;
use crate::errors::{Fault, Kind};
use crate::machine::MachineError;
use crate::state::{AccessToken, Settings};

/// Body of the request; every member is optional, absent members leave the setting as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitRequest {
    env_vars: Option<BTreeMap<String, String>>,
    access_token: Option<String>,
    timestamp: Option<Timestamp>,
    default_user: Option<String>,
    default_workdir: Option<String>,
    #[serde(rename = "hyperloopIP")]
    hyperloop_ip: Option<Ipv4Addr>,
    ca_bundle: Option<String>,
    volume_mounts: Option<Vec<serde_json::Value>>,
}

/// Why the settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The body is not JSON of the expected shape.
    #[error("The body is not JSON of the expected shape: {0}")]
    Body(#[from] JsonRejection),
    /// The token differs from the sandbox's.
    #[error(transparent)]
    Token(#[from] AuthError),
    /// A member asks for something this agent does not do.
    #[error("The member `{0}` is not supported.")]
    Unsupported(&'static str),
    /// The clock cannot be set.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl From<InitError> for Fault {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Token(error) => error.into(),
            InitError::Body(_) | InitError::Unsupported(_) => Self::invalid(error.to_string()),
            InitError::Machine(_) => Self::new(Kind::Internal, error.to_string()),
        }
    }
}

/// Takes over the settings and answers 204.
///
/// # Errors
/// 401 when the token differs, 400 for an unusable body.
pub async fn post(
    State(agent): State<Arc<Agent>>,
    body: Result<Json<InitRequest>, JsonRejection>,
) -> Result<StatusCode, Fault> {
    let request = body.map(|Json(request)| request).map_err(InitError::from)?;
    apply(&agent, request)?;
    Ok(StatusCode::NO_CONTENT)
}

fn apply(agent: &Agent, request: InitRequest) -> Result<(), InitError> {
    check(&agent.state.settings(), &request)?;
    if let Some(time) = request.timestamp {
        let nanoseconds = u64::try_from(time.as_nanosecond()).unwrap_or(0);
        agent.machine.set_clock(nanoseconds)?;
    }
    agent.state.update(|settings| {
        // Again under the lock: a token may have been set since.
        check(settings, &request)?;
        if let Some(token) = request.access_token {
            settings.access_token = AccessToken::new(token);
        }
        if let Some(mut env) = request.env_vars {
            if let Some(address) = request.hyperloop_ip {
                env.insert("E2B_EVENTS_ADDRESS".to_owned(), format!("http://{address}"));
            }
            let identity = identity_variables(&settings.sandbox_id, &settings.template_id);
            settings.env = with_identity(&env, &identity);
        }
        if let Some(user) = request.default_user.filter(|user| !user.is_empty()) {
            settings.default_user = user;
        }
        if let Some(workdir) = request
            .default_workdir
            .filter(|workdir| !workdir.is_empty())
        {
            settings.default_workdir = Some(workdir);
        }
        Ok(())
    })
}

fn check(settings: &Settings, request: &InitRequest) -> Result<(), InitError> {
    if let Some(token) = &settings.access_token {
        let given = request.access_token.as_deref().unwrap_or("");
        if !token.matches(given.as_bytes()) {
            return Err(AuthError::BadToken.into());
        }
    }
    if request
        .ca_bundle
        .as_deref()
        .is_some_and(|bundle| !bundle.is_empty())
    {
        return Err(InitError::Unsupported("caBundle"));
    }
    if request
        .volume_mounts
        .as_deref()
        .is_some_and(|mounts| !mounts.is_empty())
    {
        return Err(InitError::Unsupported("volumeMounts"));
    }
    Ok(())
}
