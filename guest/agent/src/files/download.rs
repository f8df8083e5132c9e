//! GET /files: one file, whole or in part, plain or compressed. Memory use does not grow with the size.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_compression::tokio::bufread::GzipEncoder;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, StatusCode, response};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio_util::io::ReaderStream;

use super::access::{Access, FilesQuery};
use super::encoding::{self, Coding};
use super::error::FilesError;
use super::headers;
use super::range::{self, Selection};
use super::signature::Operation;
use super::write::blocking;
use crate::filesystem::entry::base_name;
use crate::state::SharedState;

/// The size of one read, and of one piece of the body.
const PIECE: usize = 256 * 1024;

/// An open file and what its headers need.
struct Opened {
    file: File,
    size: u64,
    modified_s: i64,
    /// For files that claim to be empty (as those in /proc do): their first bytes.
    start: Vec<u8>,
}

/// The handler.
///
/// # Errors
/// See [`FilesError`].
pub async fn get(
    State(state): State<SharedState>,
    query: Result<Query<FilesQuery>, QueryRejection>,
    request_headers: HeaderMap,
) -> Result<Response, FilesError> {
    let access = Access::check(&state, &request_headers, query, Operation::Read)?;
    let path = access.resolve(access.path.as_deref().unwrap_or_default())?;
    let opened = {
        let path = path.clone();
        blocking(move || open(path)).await?
    };
    let coding = encoding::negotiate(&request_headers).ok_or(FilesError::NotAcceptable)?;
    let reply = Response::builder()
        .header(CONTENT_TYPE, headers::content_type(&path))
        .header(
            CONTENT_DISPOSITION,
            headers::content_disposition(&base_name(&path)),
        )
        .header(VARY, "Accept-Encoding");
    let reply = match range::http_date(opened.modified_s) {
        Some(date) => reply.header(LAST_MODIFIED, date),
        None => reply,
    };
    if coding == Coding::Gzip && !range::wants_identity(&request_headers) {
        let reply = reply.header(CONTENT_ENCODING, "gzip");
        let plain = BufReader::with_capacity(PIECE, content(opened, None));
        return finish(reply, &path, stream(GzipEncoder::new(plain)));
    }
    let reply = reply.header(ACCEPT_RANGES, "bytes");
    if !opened.start.is_empty() {
        // The size is not known before the end.
        return finish(reply, &path, stream(content(opened, None)));
    }
    let size = opened.size;
    match range::select(&request_headers, size, opened.modified_s) {
        Selection::Whole => {
            let reply = reply.header(CONTENT_LENGTH, size);
            finish(reply, &path, stream(content(opened, Some(size))))
        }
        Selection::Part { start, length } => {
            let opened = blocking({
                let path = path.clone();
                move || seek(opened, start, &path)
            })
            .await?;
            let reply = reply
                .status(StatusCode::PARTIAL_CONTENT)
                .header(
                    CONTENT_RANGE,
                    format!("bytes {start}-{}/{size}", start + length - 1),
                )
                .header(CONTENT_LENGTH, length);
            finish(reply, &path, stream(content(opened, Some(length))))
        }
        Selection::NotModified => {
            finish(reply.status(StatusCode::NOT_MODIFIED), &path, Body::empty())
        }
        Selection::PreconditionFailed => finish(
            reply.status(StatusCode::PRECONDITION_FAILED),
            &path,
            Body::empty(),
        ),
        Selection::NotSatisfiable => {
            let reply = reply
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(CONTENT_RANGE, format!("bytes */{size}"));
            finish(reply, &path, Body::empty())
        }
    }
}

fn open(path: PathBuf) -> Result<Opened, FilesError> {
    // Not blocking: a pipe without a writer opens at once, and is refused as what it is.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let failed = |action| {
        let path = path.clone();
        move |error| FilesError::io(action, path, error)
    };
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(&path)
        .map_err(failed("open"))?;
    let metadata = file.metadata().map_err(failed("stat"))?;
    if metadata.is_dir() {
        return Err(FilesError::IsDirectory(path));
    }
    if !metadata.is_file() {
        return Err(FilesError::NotRegular(path));
    }
    let mut start = Vec::new();
    if metadata.size() == 0 {
        file.by_ref()
            .take(PIECE as u64)
            .read_to_end(&mut start)
            .map_err(failed("read"))?;
    }
    Ok(Opened {
        file,
        size: metadata.size(),
        modified_s: metadata.mtime(),
        start,
    })
}

fn seek(mut opened: Opened, start: u64, path: &Path) -> Result<Opened, FilesError> {
    opened
        .file
        .seek(SeekFrom::Start(start))
        .map_err(|error| FilesError::io("read", path, error))?;
    Ok(opened)
}

/// The bytes from where the file stands, at most `length` of them.
fn content(opened: Opened, length: Option<u64>) -> impl AsyncRead + Send + 'static {
    let mut file = tokio::fs::File::from_std(opened.file);
    file.set_max_buf_size(PIECE);
    let start = std::io::Cursor::new(Bytes::from(opened.start));
    AsyncReadExt::chain(start, file).take(length.unwrap_or(u64::MAX))
}

fn stream(reader: impl AsyncRead + Send + 'static) -> Body {
    Body::from_stream(ReaderStream::with_capacity(reader, PIECE))
}

fn finish(reply: response::Builder, path: &Path, body: Body) -> Result<Response, FilesError> {
    reply
        .body(body)
        .map_err(|error| FilesError::io("describe", path, std::io::Error::other(error)))
}
