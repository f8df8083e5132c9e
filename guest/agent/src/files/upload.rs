//! POST /files: one file as bytes, or many as a form. Memory use does not grow with the size.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use async_compression::tokio::bufread::GzipDecoder;
use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use multer::Multipart;
use serde::Serialize;
use tokio_util::io::{ReaderStream, StreamReader};

use super::access::{Access, FilesQuery};
use super::encoding::{self, Coding};
use super::error::FilesError;
use super::metadata::from_headers;
use super::signature::Operation;
use super::write::write_file;
use crate::filesystem::entry::base_name;
use crate::filesystem::metadata::Metadata;
use crate::state::SharedState;

/// The most files one form may hold.
const MAX_FILES: usize = 10_000;
/// Pieces in which a compressed body is unpacked.
const PIECE: usize = 64 * 1024;

/// One written file, as the client is told.
#[derive(Debug, Serialize)]
pub struct Written {
    /// Absolute path.
    pub path: String,
    /// Its last component.
    pub name: String,
    /// Always `file`.
    pub r#type: &'static str,
    /// What was set, when something was.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl Written {
    /// The answer for one file.
    pub fn new(path: &Path, metadata: Metadata) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            name: base_name(path),
            r#type: "file",
            metadata,
        }
    }
}

/// The handler.
///
/// # Errors
/// See [`FilesError`]. Files of a form written before the error stay.
pub async fn post(
    State(state): State<SharedState>,
    query: Result<Query<FilesQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Vec<Written>>, FilesError> {
    let access = Access::check(&state, &headers, query, Operation::Write)?;
    let metadata = from_headers(&headers)?;
    let content = decoded(&headers, body.into_data_stream())?;
    let content_type = headers
        .get(CONTENT_TYPE)
        .map_or("", |value| value.to_str().unwrap_or(""));
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let written = if media_type.eq_ignore_ascii_case("application/octet-stream") {
        vec![write_bytes(&access, metadata, content).await?]
    } else if media_type.eq_ignore_ascii_case("multipart/form-data") {
        let boundary = multer::parse_boundary(content_type)
            .map_err(|_| FilesError::ContentType(content_type.to_owned()))?;
        write_form(&access, &metadata, Multipart::new(content, boundary)).await?
    } else {
        return Err(FilesError::ContentType(content_type.to_owned()));
    };
    Ok(Json(written))
}

async fn write_bytes(
    access: &Access,
    metadata: Metadata,
    content: BoxStream<'static, io::Result<Bytes>>,
) -> Result<Written, FilesError> {
    let path = access.path.as_deref().filter(|path| !path.is_empty());
    let path = access.resolve(path.ok_or(FilesError::PathRequired)?)?;
    write_file(&path, access.owner(), &metadata, content).await?;
    Ok(Written::new(&path, metadata))
}

async fn write_form(
    access: &Access,
    metadata: &Metadata,
    mut form: Multipart<'static>,
) -> Result<Vec<Written>, FilesError> {
    let mut written = Vec::new();
    let mut seen: HashSet<PathBuf> = HashSet::new();
    while let Some(part) = form.next_field().await.map_err(unreadable)? {
        if part.name() != Some("file") {
            continue; // Skipped by asking for the next one.
        }
        let named = access
            .path
            .as_deref()
            .or(part.file_name())
            .filter(|name| !name.is_empty());
        let path = access.resolve(named.ok_or(FilesError::NoFileName)?)?;
        if !seen.insert(path.clone()) {
            return Err(FilesError::Duplicate(path));
        }
        if written.len() == MAX_FILES {
            return Err(FilesError::Body(format!(
                "more than {MAX_FILES} files in one form"
            )));
        }
        write_file(&path, access.owner(), metadata, part.map_err(unreadable)).await?;
        written.push(Written::new(&path, metadata.clone()));
    }
    Ok(written)
}

fn unreadable(error: multer::Error) -> FilesError {
    // The interesting part is what caused it: the connection, or the compression.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    FilesError::Body(cause.to_string())
}

/// The body without its content coding.
fn decoded(
    headers: &HeaderMap,
    body: BodyDataStream,
) -> Result<BoxStream<'static, io::Result<Bytes>>, FilesError> {
    let plain = body.map_err(io::Error::other);
    match encoding::of_request(headers).map_err(FilesError::Coding)? {
        Coding::Identity => Ok(plain.boxed()),
        Coding::Gzip => {
            let mut decoder = GzipDecoder::new(StreamReader::new(plain));
            decoder.multiple_members(true);
            Ok(ReaderStream::with_capacity(decoder, PIECE).boxed())
        }
    }
}
