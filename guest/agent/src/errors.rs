//! How a refusal looks to a client: one table for both faces of the agent.
//!
//! ```text
//!   module error (thiserror enum) ──From──▶ Fault { kind, message } ─┬─▶ Connect: {"code":"not_found","message":…}
//!                                                                    └─▶ HTTP:    {"code":404,"message":…}
//! ```
//!
//! Every module keeps its own error enum and says here only which [`Kind`] each variant is. The Connect column follows
//! the Connect protocol's code table, the HTTP column what E2B's envd answers on its plain routes.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use connectrpc::{ConnectError, ErrorCode};
use serde::{Deserialize, Serialize};

/// What went wrong, as far as a client can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request can never succeed as it is.
    InvalidArgument,
    /// The caller is not known: bad token, bad signature, unknown user.
    Unauthenticated,
    /// The caller is known and may not.
    PermissionDenied,
    /// The thing named does not exist.
    NotFound,
    /// The thing to be made exists.
    AlreadyExists,
    /// Not in the present state.
    FailedPrecondition,
    /// A limit is reached.
    ResourceExhausted,
    /// The disk is full.
    NotEnoughSpace,
    /// No offered representation is acceptable (HTTP 406).
    NotAcceptable,
    /// Not now; a later try may succeed.
    Unavailable,
    /// The deadline the caller set has passed.
    DeadlineExceeded,
    /// The agent's own fault.
    Internal,
}

impl Kind {
    /// Status of a plain HTTP reply.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists => StatusCode::CONFLICT,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::NotEnoughSpace => StatusCode::INSUFFICIENT_STORAGE,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Code of a Connect error.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::InvalidArgument | Self::NotAcceptable => ErrorCode::InvalidArgument,
            Self::Unauthenticated => ErrorCode::Unauthenticated,
            Self::PermissionDenied => ErrorCode::PermissionDenied,
            Self::NotFound => ErrorCode::NotFound,
            Self::AlreadyExists => ErrorCode::AlreadyExists,
            Self::FailedPrecondition => ErrorCode::FailedPrecondition,
            Self::ResourceExhausted | Self::NotEnoughSpace => ErrorCode::ResourceExhausted,
            Self::Unavailable => ErrorCode::Unavailable,
            Self::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            Self::Internal => ErrorCode::Internal,
        }
    }
}

/// A refusal on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What went wrong.
    pub kind: Kind,
    /// A sentence for a person; SDKs show it.
    pub message: String,
}

impl Fault {
    /// A fault of the given kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The caller asked for something that can never succeed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    /// The thing named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The agent's own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// The fault that an error of the guest's kernel is, with `what` was being done in front of it.
    #[must_use]
    pub fn io(what: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let kind = match error.kind() {
            E::NotFound => Kind::NotFound,
            E::PermissionDenied | E::ReadOnlyFilesystem => Kind::PermissionDenied,
            E::AlreadyExists => Kind::AlreadyExists,
            E::StorageFull | E::QuotaExceeded | E::FileTooLarge => Kind::NotEnoughSpace,
            E::InvalidInput
            | E::InvalidFilename
            | E::NotADirectory
            | E::IsADirectory
            | E::DirectoryNotEmpty
            | E::CrossesDevices => Kind::InvalidArgument,
            _ => Kind::Internal,
        };
        Self::new(kind, format!("{what}: {error}"))
    }
}

/// Body of an error reply on a plain HTTP route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The HTTP status again.
    pub code: u16,
    /// A sentence for a person.
    pub message: String,
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let body = ErrorBody {
            code: status.as_u16(),
            message: self.message,
        };
        (status, axum::Json(body)).into_response()
    }
}

impl From<Fault> for ConnectError {
    fn from(fault: Fault) -> Self {
        ConnectError::new(fault.kind.code(), fault.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_body_carries_the_status() {
        let body = ErrorBody {
            code: 404,
            message: "No such file.".into(),
        };
        insta::assert_snapshot!(
            serde_json::to_string(&body).expect("serializable"),
            @r#"{"code":404,"message":"No such file."}"#
        );
        let reply = Fault::not_found("No such file.").into_response();
        assert_eq!(reply.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn connect_error_keeps_code_and_message() {
        let error = ConnectError::from(Fault::new(Kind::Unauthenticated, "invalid username: 'x'"));
        insta::assert_snapshot!(
            String::from_utf8_lossy(&error.to_json()),
            @r#"{"code":"unauthenticated","message":"invalid username: 'x'"}"#
        );
    }

    #[test]
    fn kernel_errors_find_their_kind() {
        let kind = |errno| Fault::io("x", &std::io::Error::from_raw_os_error(errno)).kind;
        assert_eq!(kind(libc::ENOENT), Kind::NotFound);
        assert_eq!(kind(libc::EACCES), Kind::PermissionDenied);
        assert_eq!(kind(libc::ENOSPC), Kind::NotEnoughSpace);
        assert_eq!(kind(libc::EEXIST), Kind::AlreadyExists);
        assert_eq!(kind(libc::ENOTDIR), Kind::InvalidArgument);
        assert_eq!(kind(libc::EIO), Kind::Internal);
    }
}
