//! Reading requests: bodies, ids and queries, each with its refusal from the error table.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::ids::SandboxId;

/// Largest request body of the API in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// A JSON body; an absent body counts as `{}`.
#[derive(Debug)]
pub struct Body<T> {
    /// The value.
    pub value: T,
    /// SHA-256 of the bytes it was read from.
    pub hash: [u8; 32],
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = Limited::new(request.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(|error| {
                if error.downcast_ref::<LengthLimitError>().is_some() {
                    ApiError::TooLarge(MAX_BODY)
                } else {
                    ApiError::Body("it ended before its end".to_owned())
                }
            })?
            .to_bytes();
        let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) {
            b"{}"
        } else {
            &bytes
        };
        let value = serde_json::from_slice(text).map_err(|e| ApiError::Body(e.to_string()))?;
        let hash = <sha2::Sha256 as sha2::Digest>::digest(text).into();
        Ok(Self { value, hash })
    }
}

/// The sandbox id in the path, without its suffix.
#[derive(Debug)]
pub struct Id(pub SandboxId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = segment(parts, state).await?;
        let id = SandboxId::parse(&text);
        id.map(Self).ok_or_else(|| {
            let shown = text.chars().take(64).collect();
            ApiError::NoSandbox(shown)
        })
    }
}

/// The template name in the path, decoded.
#[derive(Debug)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        segment(parts, state).await.map(Self)
    }
}

async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, ApiError> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(text)| text).map_err(|_| ApiError::Field {
        field: "path",
        why: "it is not UTF-8 once decoded".to_owned(),
    })
}

/// A query string; parameters that the operation does not know are refused by the type.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|e| ApiError::Query(innermost(&e)))
    }
}

/// The innermost cause: the outer ones only say that a query was not read.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
