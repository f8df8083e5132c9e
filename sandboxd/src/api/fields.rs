//! What members and parameters of several resources have in common. Pure.

use super::error::ApiError;
use crate::templates::Reference;

/// Most items on a page (E2B: `limit` of the lists).
const MAX_PAGE: usize = 100;

/// A member or parameter whose value cannot be used.
pub fn bad(field: &'static str, why: &str) -> ApiError {
    ApiError::Field {
        field,
        why: why.to_owned(),
    }
}

/// The parameter `limit` of a list; without it, the longest page.
pub fn page_limit(limit: Option<&str>) -> Result<usize, ApiError> {
    match limit.map(str::parse) {
        None => Ok(MAX_PAGE),
        Some(Ok(limit)) if (1..=MAX_PAGE).contains(&limit) => Ok(limit),
        Some(_) => Err(bad("limit", "it must be a number from 1 to 100")),
    }
}

/// The template, or snapshot, that `field` names.
pub fn template(field: &'static str, name: &str) -> Result<Reference, ApiError> {
    Reference::parse(name).ok_or_else(|| {
        let why = format!("`{}` is not the name of a template", shortened(name));
        bad(field, &why)
    })
}

/// A template, or snapshot, that is not known.
pub fn unknown_template(name: &str) -> ApiError {
    ApiError::NoTemplate(shortened(name))
}

/// The beginning of what a client sent, for an answer.
pub fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
