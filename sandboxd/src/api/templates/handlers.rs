//! Reading templates.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;

use super::wire::{ListQuery, TemplateAlias, TemplateBuild, TemplateDetail, TemplateInfo};
use crate::api::App;
use crate::api::error::ApiError;
use crate::api::extract::{Name, Params};
use crate::api::fields::{template, unknown_template};
use crate::templates::Template;

pub async fn list(
    State(app): State<App>,
    Params(_): Params<ListQuery>,
) -> Result<Response, ApiError> {
    let used = app.manager.store().template_use().await?;
    let templates = app.templates.iter();
    let infos: Vec<_> = templates
        .map(|template| TemplateInfo::new(template, used.get(&template.id)))
        .collect();
    Ok(axum::Json(infos).into_response())
}

pub async fn page(
    State(app): State<App>,
    Params(query): Params<ListQuery>,
) -> Result<Response, ApiError> {
    let mut templates: Vec<_> = app.templates.iter().collect();
    templates.sort_by_key(|template| template.id.as_str());
    let ids: Vec<_> = templates.iter().map(|one| one.id.as_str()).collect();
    let (selected, last) = query.page(&ids)?;
    let used = app.manager.store().template_use().await?;
    let infos: Vec<_> = templates[selected]
        .iter()
        .map(|template| TemplateInfo::new(template, used.get(&template.id)))
        .collect();
    let mut response = axum::Json(infos).into_response();
    if let Some(token) = last.and_then(|id| HeaderValue::from_str(id).ok()) {
        response.headers_mut().insert("x-next-token", token);
    }
    Ok(response)
}

pub async fn show(
    State(app): State<App>,
    Name(name): Name,
    Params(query): Params<ListQuery>,
) -> Result<Response, ApiError> {
    // There is one build.
    query.page(&[])?;
    let template = find(&app, &name)?;
    let used = app.manager.store().template_use().await?;
    let detail = TemplateDetail {
        template: TemplateInfo::new(&template, used.get(&template.id)),
        builds: vec![TemplateBuild::from(&*template)],
    };
    Ok(axum::Json(detail).into_response())
}

pub async fn alias(State(app): State<App>, Name(name): Name) -> Result<Response, ApiError> {
    let reference = template("template", &name)?;
    let alias = match app.templates.resolve(&reference) {
        Some(template) => TemplateAlias {
            template_id: template.id.clone(),
            public: true,
        },
        None => TemplateAlias {
            template_id: match app.manager.snapshot_family(&reference).await? {
                Some(family) => family.to_string(),
                None => return Err(unknown_template(&name)),
            },
            public: false,
        },
    };
    Ok(axum::Json(alias).into_response())
}

fn find(app: &App, name: &str) -> Result<Arc<Template>, ApiError> {
    let template = app.templates.resolve(&template("template", name)?);
    template.ok_or_else(|| unknown_template(name))
}
