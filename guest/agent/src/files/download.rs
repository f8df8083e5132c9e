//! GET /files: one file, whole or in part, plain or compressed. Memory use does not grow with the size.
//!
//! A client that takes gzip gets it, unless the file is larger than [`SAMPLE`] and its start hardly shrinks: SDKs
//! always take gzip, and packing a film or an archive again costs far more time than it saves. The fastest level
//! is used for the same reason.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_compression::Level;
use async_compression::tokio::bufread::GzipEncoder;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
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

/// Bytes of a file's start that tell whether the rest is worth compressing.
const SAMPLE: usize = 64 * 1024;

/// An open file and what its headers need.
struct Opened {
    file: File,
    /// In bytes; `None` for files that do not know it (as those in /proc).
    size: Option<u64>,
    modified_s: i64,
    /// The first bytes, already taken from `file`. All of it when it is small.
    start: Vec<u8>,
}

impl Opened {
    /// Whether compression saves at least a tenth of the sample.
    fn shrinks(&self) -> bool {
        if self.start.len() < SAMPLE {
            return true;
        }
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory does not fail.
        let packed = packed.write_all(&self.start).and_then(|()| packed.finish());
        packed.is_ok_and(|packed| packed.len() < self.start.len() / 10 * 9)
    }
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
    let coding = encoding::negotiate(&request_headers);
    let plain_wanted = range::wants_identity(&request_headers);
    let plain_taken = encoding::takes_identity(&request_headers);
    let (opened, packed) = {
        let path = path.clone();
        blocking(move || {
            let opened = open(path)?;
            let coding = coding.ok_or(FilesError::NotAcceptable)?;
            let packed =
                coding == Coding::Gzip && !plain_wanted && (!plain_taken || opened.shrinks());
            Ok((opened, packed))
        })
        .await?
    };
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
    if packed {
        let reply = reply.header(CONTENT_ENCODING, "gzip");
        let plain = BufReader::with_capacity(PIECE, content(opened, None));
        let packed = GzipEncoder::with_quality(plain, Level::Fastest);
        return finish(reply, &path, stream(packed));
    }
    let reply = reply.header(ACCEPT_RANGES, "bytes");
    let Some(size) = opened.size else {
        return finish(reply, &path, stream(content(opened, None)));
    };
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
    let mut start = Vec::with_capacity(SAMPLE);
    Read::take(&mut file, SAMPLE as u64)
        .read_to_end(&mut start)
        .map_err(failed("read"))?;
    let size = metadata.size();
    Ok(Opened {
        file,
        size: (size > 0 || start.is_empty()).then_some(size),
        modified_s: metadata.mtime(),
        start,
    })
}

fn seek(mut opened: Opened, start: u64, path: &Path) -> Result<Opened, FilesError> {
    opened
        .file
        .seek(SeekFrom::Start(start))
        .map_err(|error| FilesError::io("read", path, error))?;
    opened.start.clear();
    Ok(opened)
}

/// The start and the bytes from where the file stands, at most `length` of them.
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
