//! What can go wrong with `/files`, and what kind of fault a client gets for it.

use std::io;
use std::path::PathBuf;

use crate::errors::{Fault, Kind};
use crate::filesystem::error::FilesystemError;
use crate::paths::PathError;
use crate::users::UserError;

use super::metadata::MetadataError;
use super::signature::Refusal;

/// A refused or failed upload, download or composition.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The token or the signature does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The query names a user that is not there.
    #[error("error looking up user: {0}")]
    User(#[from] UserError),
    /// The path cannot be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A metadata header breaks a rule.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The query string cannot be read.
    #[error("the query cannot be read: {0}")]
    Query(String),
    /// Nothing at the path.
    #[error("path '{}' does not exist", .0.display())]
    NotFound(PathBuf),
    /// A directory where a file is needed.
    #[error("path '{}' is a directory", .0.display())]
    IsDirectory(PathBuf),
    /// A device, pipe or socket: it may never end, or block for ever.
    #[error("path '{}' is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// The client takes neither gzip nor plain bytes.
    #[error("no acceptable encoding: this service sends gzip and identity")]
    NotAcceptable,
    /// A request body in a coding that is not spoken.
    #[error("unsupported Content-Encoding: {0}, supported: gzip")]
    Coding(String),
    /// A body that is neither a form nor bytes.
    #[error(
        "unsupported content type: {0:?}, expected multipart/form-data or application/octet-stream"
    )]
    ContentType(String),
    /// Bytes without a place to put them.
    #[error("path query parameter is required for raw body upload")]
    PathRequired,
    /// A part called `file` with neither a `path` in the query nor a file name.
    #[error("a part of the form has no file name, and the query names no path")]
    NoFileName,
    /// Two parts of one form lead to the same file.
    #[error(
        "you cannot upload multiple files to the same path '{}' in one upload request, only the first specified file was uploaded",
        .0.display()
    )]
    Duplicate(PathBuf),
    /// The body broke off or is not what its headers say.
    #[error("the request body cannot be read: {0}")]
    Body(String),
    /// The JSON of a composition is not what it should be.
    #[error("invalid request body: {0}")]
    Composition(String),
    /// The disk, or the table of inodes, is full.
    #[error("not enough disk space available")]
    NoSpace,
    /// The file system keeps no extended attributes.
    #[error("the file system of '{}' keeps no metadata", .0.display())]
    NoMetadata(PathBuf),
    /// Making the parents of a file, or the like.
    #[error(transparent)]
    Filesystem(FilesystemError),
    /// The operating system said no.
    #[error("cannot {action} '{}': {source}", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl FilesError {
    /// Wraps an operating system error, giving the ones with a meaning of their own their name.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        use rustix::io::Errno;
        let path = path.into();
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace,
            Some(Errno::NOENT) => Self::NotFound(path),
            Some(Errno::ISDIR) => Self::IsDirectory(path),
            // Opening a pipe without a reader, or a socket.
            Some(Errno::NXIO) => Self::NotRegular(path),
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Refused(_) | Self::User(_) => Kind::Unauthenticated,
            Self::NotFound(_) => Kind::NotFound,
            Self::NotAcceptable => Kind::NotAcceptable,
            Self::NoSpace => Kind::NotEnoughSpace,
            Self::Path(_)
            | Self::Metadata(_)
            | Self::Query(_)
            | Self::IsDirectory(_)
            | Self::NotRegular(_)
            | Self::Coding(_)
            | Self::ContentType(_)
            | Self::PathRequired
            | Self::NoFileName
            | Self::Duplicate(_)
            | Self::Body(_)
            | Self::Composition(_) => Kind::InvalidArgument,
            Self::Filesystem(error) => error.kind(),
            Self::NoMetadata(_) => Kind::Internal,
            Self::Io { source, .. } => Fault::io("", source).kind,
        }
    }
}

impl From<FilesystemError> for FilesError {
    fn from(error: FilesystemError) -> Self {
        match error {
            FilesystemError::NoSpace(_) => Self::NoSpace,
            error => Self::Filesystem(error),
        }
    }
}

impl From<FilesError> for Fault {
    fn from(error: FilesError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl axum::response::IntoResponse for FilesError {
    fn into_response(self) -> axum::response::Response {
        Fault::from(self).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn every_status_the_sdks_tell_apart_is_produced() {
        let errno = |errno: rustix::io::Errno| FilesError::io("open", "/x", errno.into());
        for (error, status) in [
            (
                FilesError::Refused(Refusal::MissingSignature),
                StatusCode::UNAUTHORIZED,
            ),
            (
                FilesError::User(UserError::Unknown("x".into())),
                StatusCode::UNAUTHORIZED,
            ),
            (errno(rustix::io::Errno::NOENT), StatusCode::NOT_FOUND),
            (errno(rustix::io::Errno::ISDIR), StatusCode::BAD_REQUEST),
            (
                errno(rustix::io::Errno::NOSPC),
                StatusCode::INSUFFICIENT_STORAGE,
            ),
            (
                errno(rustix::io::Errno::IO),
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
            (FilesError::NotAcceptable, StatusCode::NOT_ACCEPTABLE),
            (FilesError::PathRequired, StatusCode::BAD_REQUEST),
        ] {
            assert_eq!(Fault::from(error).kind.status(), status);
        }
    }
}
