//! Create, show, kill.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::wire::{Base, CreateRequest, Sandbox, SandboxDetail, Version};
use crate::api::error::ApiError;
use crate::api::extract::{Body, Id};
use crate::api::fields::{template, unknown_template};
use crate::api::timing::{Watch, timed};
use crate::api::{App, no_content};
use crate::ids::SandboxId;
use crate::lifecycle::create::{Created, Spec};
use crate::machine::Source;
use crate::moment::Moment;
use crate::store::idempotency::Begin;

/// Names a create, so that a repeated one creates nothing twice (1 to 255 of `a-z 0-9 -`).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub async fn create_v1(
    State(app): State<App>,
    body: Body<CreateRequest>,
) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let spec = check(&app, body.value, Version::V1).await?;
    let created = app.manager.create(new_id()?, spec, false).await?;
    Ok(answer(&app, &created, watch))
}

pub async fn create_v2(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body<CreateRequest>,
) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let key = idempotency_key(&headers)?;
    let spec = check(&app, body.value, Version::V2).await?;
    let id = new_id()?;
    let Some(key) = key else {
        let created = app.manager.create(id, spec, false).await?;
        return Ok(answer(&app, &created, watch));
    };
    let begun = app
        .manager
        .store()
        .begin(key.clone(), body.hash, id.clone(), Moment::now())
        .await?;
    match begun {
        Begin::Repeat(json) => Ok(repeated(json)),
        Begin::InProgress => Err(ApiError::KeyInProgress),
        Begin::Mismatch => Err(ApiError::KeyReused),
        Begin::Fresh => {
            // A task of its own, so that the key gets its outcome even when this client goes away.
            let task = tokio::spawn(create_with_key(app, id, spec, key, watch));
            task.await.map_err(|error| ApiError::internal(&error))?
        }
    }
}

async fn create_with_key(
    app: App,
    id: SandboxId,
    spec: Spec,
    key: String,
    watch: Watch,
) -> Result<Response, ApiError> {
    let store = app.manager.store().clone();
    match app.manager.create(id, spec, true).await {
        Ok(created) => {
            let sandbox = Sandbox::new(&created.view, app.domain.as_deref());
            let json = serde_json::to_string(&sandbox).map_err(|e| ApiError::internal(&e))?;
            store.finish(key, json).await?;
            Ok(answer(&app, &created, watch))
        }
        Err(error) => {
            store.abandon(key).await?;
            Err(error.into())
        }
    }
}

pub async fn show(State(app): State<App>, Id(id): Id) -> Result<Response, ApiError> {
    let sandbox = app.manager.known(&id);
    let view = sandbox.and_then(|sandbox| sandbox.view());
    let view = view.ok_or_else(|| ApiError::NoSandbox(id.to_string()))?;
    let detail = SandboxDetail::new(&view, app.domain.as_deref());
    Ok(axum::Json(detail).into_response())
}

pub async fn kill(State(app): State<App>, Id(id): Id) -> Result<Response, ApiError> {
    let killed = app.manager.kill(&id).await;
    // Whoever is second is told what a third would be: the sandbox is gone.
    killed.map_err(|_| ApiError::NoSandbox(id.to_string()))?;
    Ok(no_content())
}

async fn check(app: &App, request: CreateRequest, version: Version) -> Result<Spec, ApiError> {
    request.refuse_unsupported()?;
    let base = base(app, &request.template_id).await?;
    request.check(
        version,
        base,
        app.manager.bounds().longest_life,
        app.default_egress,
        &app.services,
    )
}

/// The template or snapshot that a request names.
async fn base(app: &App, name: &str) -> Result<Base, ApiError> {
    let reference = template("templateID", name)?;
    if let Some(template) = app.templates.resolve(&reference) {
        return Ok(Base {
            template,
            source: Source::Template,
            origin: None,
            env: BTreeMap::new(),
        });
    }
    let snapshot = crate::api::snapshot::find(app, &reference).await?;
    snapshot.ok_or_else(|| unknown_template(name))
}

fn new_id() -> Result<SandboxId, ApiError> {
    SandboxId::generate().map_err(|error| ApiError::internal(&error))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let valid = |key: &&str| {
        (1..=255).contains(&key.len())
            && key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let key = value.to_str().ok().filter(valid);
    let key = key.ok_or_else(|| ApiError::Field {
        field: "Idempotency-Key",
        why: "it must be 1 to 255 lower-case letters, digits and hyphens".to_owned(),
    })?;
    Ok(Some(key.to_owned()))
}

/// A sandbox that was created or resumed, with the stages of its start.
pub fn answer(app: &App, created: &Created, watch: Watch) -> Response {
    let sandbox = Sandbox::new(&created.view, app.domain.as_deref());
    let response = (StatusCode::CREATED, axum::Json(sandbox)).into_response();
    timed(response, &created.stages, watch)
}

fn repeated(json: String) -> Response {
    let kind = [(http::header::CONTENT_TYPE, "application/json")];
    (StatusCode::CREATED, kind, json).into_response()
}
