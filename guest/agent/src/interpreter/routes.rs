//! The HTTP face, on port 49999.
//!
//! | route | answer |
//! |---|---|
//! | GET /health | `"OK"` |
//! | POST /execute | lines of events, see [`events`](super::events) |
//! | POST /contexts, GET /contexts | `{id, language, cwd}`, or a list of these |
//! | DELETE /contexts/{id}, POST /contexts/{id}/restart | `null` |
//!
//! Errors are plain text. Only `/execute` asks for the sandbox's token, because the SDKs send it only there; members
//! that this service does not know are ignored, as E2B's does.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;

use super::context::ContextInfo;
use super::error::InterpreterError;
use super::execution::{self, Cell};
use super::languages;
use super::service::Interpreter;
use crate::auth::{AuthError, TokenCheck, check_token};
use crate::rpc::MAX_MESSAGE_LEN;

#[derive(Debug, Deserialize)]
struct Execute {
    code: String,
    context_id: Option<String>,
    language: Option<String>,
    env_vars: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
struct CreateContext {
    cwd: Option<String>,
    language: Option<String>,
}

/// The routes.
pub fn router(interpreter: Interpreter) -> Router {
    Router::new()
        .route("/health", get(async || Json("OK")))
        .route("/execute", post(execute))
        .route("/contexts", get(list).post(create))
        .route("/contexts/{id}", delete(remove))
        .route("/contexts/{id}/restart", post(restart))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_LEN))
        .with_state(interpreter)
}

async fn execute(
    State(interpreter): State<Interpreter>,
    headers: HeaderMap,
    request: Result<Json<Execute>, JsonRejection>,
) -> Result<Response, InterpreterError> {
    let settings = interpreter.state().settings();
    if !settings.configured {
        return Err(AuthError::NotConfigured.into());
    }
    match check_token(&settings, &headers) {
        TokenCheck::Open | TokenCheck::Match => {}
        TokenCheck::Absent | TokenCheck::Mismatch => return Err(AuthError::BadToken.into()),
    }
    let request = body(request)?;
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let context = match (filled(request.context_id), filled(request.language)) {
        (Some(_), Some(_)) => return Err(InterpreterError::TwoSelectors),
        (Some(id), None) => interpreter.context(&id)?,
        (None, language) => {
            interpreter
                .default_context(&language.unwrap_or_default())
                .await?
        }
    };
    let env = request.env_vars.unwrap_or_default();
    if let Some((name, _)) = env
        .iter()
        .find(|(name, value)| !languages::is_variable(name, value))
    {
        return Err(InterpreterError::BadVariable(name.clone()));
    }
    let language = &context.info.language;
    if !env.is_empty()
        && languages::environment_code(language, languages::Change::Set(&env)).is_none()
    {
        return Err(InterpreterError::NoEnvironment(language.clone()));
    }
    // A kernel that does not start is a status, not an event.
    context.ready().await?;
    let cell = Cell {
        code: request.code,
        env,
        global_env: settings.env.clone(),
        incarnation: settings.incarnation,
    };
    let lines = stream::unfold(execution::start(context, cell), |mut lines| async move {
        lines
            .recv()
            .await
            .map(|line| (Ok::<_, std::convert::Infallible>(line), lines))
    });
    let content_type = HeaderValue::from_static("application/x-ndjson");
    Ok(([(CONTENT_TYPE, content_type)], Body::from_stream(lines)).into_response())
}

async fn create(
    State(interpreter): State<Interpreter>,
    request: Result<Json<CreateContext>, JsonRejection>,
) -> Result<Json<ContextInfo>, InterpreterError> {
    let request = body(request)?;
    let language = request.language.unwrap_or_default();
    let context = interpreter
        .create(&language, request.cwd.as_deref())
        .await?;
    Ok(Json(context.info.clone()))
}

async fn list(State(interpreter): State<Interpreter>) -> Json<Vec<ContextInfo>> {
    Json(interpreter.list())
}

async fn remove(
    State(interpreter): State<Interpreter>,
    Path(id): Path<String>,
) -> Result<Json<()>, InterpreterError> {
    interpreter.delete(&id).await?;
    Ok(Json(()))
}

async fn restart(
    State(interpreter): State<Interpreter>,
    Path(id): Path<String>,
) -> Result<Json<()>, InterpreterError> {
    interpreter.context(&id)?.restart().await?;
    Ok(Json(()))
}

fn body<T>(request: Result<Json<T>, JsonRejection>) -> Result<T, InterpreterError> {
    match request {
        Ok(Json(request)) => Ok(request),
        Err(error) => Err(InterpreterError::Request(error.body_text())),
    }
}
