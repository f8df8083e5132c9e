//! Health, document, counters.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::wire::{HEALTHY, PROMETHEUS};
use crate::api::{App, openapi};

pub async fn health() -> &'static str {
    HEALTHY
}

pub async fn openapi() -> Response {
    axum::Json(openapi::document()).into_response()
}

pub async fn metrics(State(app): State<App>) -> Response {
    let admission = app.manager.admission();
    let all = app.manager.all();
    let paused = all.iter().filter(|sandbox| sandbox.at_rest()).count();
    let text = app
        .manager
        .telemetry()
        .render(admission.used(), admission.limits(), paused);
    ([(CONTENT_TYPE, PROMETHEUS)], text).into_response()
}
