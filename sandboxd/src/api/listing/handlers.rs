//! The two lists.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;

use super::wire::{PageQuery, RunningQuery, Selection};
use crate::api::App;
use crate::api::error::ApiError;
use crate::api::extract::Params;
use crate::api::sandboxes::wire::ListedSandbox;

pub async fn page(
    State(app): State<App>,
    Params(query): Params<PageQuery>,
) -> Result<Response, ApiError> {
    Ok(answer(&app, &query.check()?))
}

pub async fn running(
    State(app): State<App>,
    Params(query): Params<RunningQuery>,
) -> Result<Response, ApiError> {
    Ok(answer(&app, &query.check()?))
}

fn answer(app: &App, selection: &Selection) -> Response {
    let sandboxes = app.manager.all();
    let views = sandboxes.iter().filter_map(|sandbox| sandbox.view());
    let page = selection.page(views.collect());
    let listed: Vec<_> = page.views.iter().map(ListedSandbox::from).collect();
    let mut response = axum::Json(listed).into_response();
    let headers = response.headers_mut();
    headers.insert("x-total-running", HeaderValue::from(page.total_running));
    if let Some(token) = page.next_token.and_then(|t| HeaderValue::from_str(&t).ok()) {
        headers.insert("x-next-token", token);
    }
    response
}
