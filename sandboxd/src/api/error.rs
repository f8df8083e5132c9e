//! The one table of refusals and failures of the API: status, code for programs, whether to try again, and message.
//!
//! Every body is `{"code": <status>, "message": "…", "error_code": "…"?}`; the SDKs read all three. `Should-Retry` is
//! sent where the Python SDK would otherwise repeat a request that cannot succeed, or would not repeat one that can
//! (it retries 429, 502, 503 and 504 on its own).

use axum::response::{IntoResponse, Response};
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admission::Full;
use crate::egress::OptionsError;
use crate::ids::SandboxId;
use crate::lifecycle::capture::CaptureError;
use crate::lifecycle::create::CreateError;
use crate::lifecycle::network::NetworkError;
use crate::lifecycle::resume::ResumeError;
use crate::lifecycle::state::Refusal;
use crate::machine::{SnapshotError, StartError};
use crate::store::StoreError;

/// Tells the SDKs whether to repeat a request.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("should-retry");

/// Body of every refusal and failure.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The HTTP status once more.
    pub code: u16,
    /// A sentence for people.
    pub message: String,
    /// A word for programs, where one is defined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<&'static str>,
}

/// Every way in which the API says no.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No API key, or an unknown one.
    #[error(
        "The X-API-KEY header is missing or holds a key that is not valid here. Make one with `sandboxd key create`."
    )]
    Unauthorized,
    /// The body is not what the operation takes.
    #[error("The request body is not valid: {0}.")]
    Body(String),
    /// A member or parameter has a value that cannot be used.
    #[error("`{field}` is not valid: {why}.")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// A query parameter is not what the operation takes.
    #[error("The query is not valid: {0}.")]
    Query(String),
    /// An option that this server does not support.
    #[error("`{0}` is not supported by this server.")]
    Option(&'static str),
    /// A network option that cannot be used.
    #[error("{0}.")]
    Network(#[from] OptionsError),
    /// An operation that this server does not support.
    #[error("{0} is not supported by this server.")]
    Feature(&'static str),
    /// No such sandbox.
    #[error(
        "The sandbox `{0}` was not found: it never existed, was killed, or reached its end of life."
    )]
    NoSandbox(String),
    /// The sandbox is being killed.
    #[error("The sandbox `{0}` is being killed.")]
    BeingKilled(String),
    /// The sandbox runs already.
    #[error("The sandbox `{0}` is running already.")]
    Running(String),
    /// The sandbox is paused.
    #[error("The sandbox `{0}` is paused.")]
    Paused(String),
    /// The sandbox does not run.
    #[error("The sandbox `{0}` does not run.")]
    NotRunning(String),
    /// Another operation took too long.
    #[error("Another operation on the sandbox `{0}` is still under way.")]
    InTransition(String),
    /// No such template.
    #[error("The template `{0}` was not found.")]
    NoTemplate(String),
    /// A sandbox was created from the snapshot and is not gone.
    #[error(
        "The snapshot `{snapshot}` cannot be deleted: the sandbox `{sandbox}` was created from it and is not gone."
    )]
    SnapshotInUse {
        /// The snapshot.
        snapshot: String,
        /// The sandbox.
        sandbox: String,
    },
    /// No such checkpoint.
    #[error("The checkpoint `{0}` was not found.")]
    NoCheckpoint(String),
    /// The name of a checkpoint is taken.
    #[error("There is a checkpoint `{0}` already: delete it first, or use another name.")]
    CheckpointExists(String),
    /// No such route.
    #[error("There is no {0} in this API.")]
    NoRoute(String),
    /// The route has no such method.
    #[error("{0} does not take this method.")]
    Method(String),
    /// The body is too large.
    #[error("The request body is larger than {0} bytes.")]
    TooLarge(usize),
    /// There is no room for the sandbox.
    #[error("{0} Kill a sandbox, wait for one to expire, or raise the limit of this server.")]
    Full(#[from] Full),
    /// The `Idempotency-Key` was used with another body.
    #[error("The Idempotency-Key was used before with a different request.")]
    KeyReused,
    /// The first request with this `Idempotency-Key` is still under way.
    #[error("The first request with this Idempotency-Key is still under way.")]
    KeyInProgress,
    /// The daemon is shutting down.
    #[error("This server is shutting down.")]
    ShuttingDown,
    /// The machine was not ready in time.
    #[error("The sandbox could not be created: {0}")]
    CreateTimedOut(String),
    /// The machine did not start.
    #[error("The sandbox could not be created: {0}")]
    CreateFailed(String),
    /// The guest did not hold still.
    #[error(
        "The sandbox `{0}` was not written down: its services do not respond, perhaps because it is out of memory or \
         processor time. It runs on."
    )]
    Unresponsive(String),
    /// The snapshot failed.
    #[error(
        "The sandbox `{0}` could not be written down; it runs on. The server's log has the details."
    )]
    SnapshotFailed(String),
    /// The rollback failed.
    #[error("The sandbox `{0}` could not go back; it runs on. The server's log has the details.")]
    NotRolledBack(String),
    /// The sandbox did not survive.
    #[error("The sandbox `{0}` did not survive the operation. The server's log has the details.")]
    Lost(String),
    /// The guest did not answer.
    #[error("The sandbox `{0}` does not answer.")]
    GuestSilent(String),
    /// Something in the daemon failed.
    #[error("Something in this server failed; its log has the details.")]
    Internal,
}

enum Retry {
    /// The client decides by the status.
    Unsaid,
    /// It would fail again.
    Never,
    /// After so many seconds.
    After(u8),
}

impl ApiError {
    /// The table.
    fn row(&self) -> (StatusCode, Option<&'static str>, Retry) {
        use Retry::{After, Never, Unsaid};
        use StatusCode as S;
        match self {
            Self::Unauthorized => (S::UNAUTHORIZED, None, Unsaid),
            Self::Body(_)
            | Self::Field { .. }
            | Self::Query(_)
            | Self::Option(_)
            | Self::SnapshotInUse { .. }
            | Self::Network(_) => (S::BAD_REQUEST, None, Unsaid),
            Self::Feature(_) => (S::NOT_IMPLEMENTED, None, Never),
            Self::NoSandbox(_) | Self::NoTemplate(_) | Self::NoCheckpoint(_) | Self::NoRoute(_) => {
                (S::NOT_FOUND, None, Unsaid)
            }
            Self::Method(_) => (S::METHOD_NOT_ALLOWED, None, Unsaid),
            Self::BeingKilled(_)
            | Self::Running(_)
            | Self::Paused(_)
            | Self::NotRunning(_)
            | Self::CheckpointExists(_) => (S::CONFLICT, None, Unsaid),
            Self::InTransition(_) => (S::CONFLICT, None, After(1)),
            Self::TooLarge(_) => (S::PAYLOAD_TOO_LARGE, None, Unsaid),
            Self::Full(_) => (
                S::TOO_MANY_REQUESTS,
                Some("sandbox_capacity_unavailable"),
                Never,
            ),
            Self::KeyReused => (
                S::UNPROCESSABLE_ENTITY,
                Some("idempotency_request_mismatch"),
                Unsaid,
            ),
            Self::KeyInProgress => (S::CONFLICT, Some("idempotency_in_progress"), After(1)),
            Self::ShuttingDown => (S::SERVICE_UNAVAILABLE, None, After(2)),
            Self::CreateTimedOut(_) => (S::GATEWAY_TIMEOUT, Some("sandbox_create_failed"), Never),
            Self::CreateFailed(_) => (
                S::INTERNAL_SERVER_ERROR,
                Some("sandbox_create_failed"),
                Never,
            ),
            Self::Unresponsive(_) => (
                S::SERVICE_UNAVAILABLE,
                Some("sandbox_snapshot_guest_agent_unresponsive"),
                Never,
            ),
            Self::SnapshotFailed(_)
            | Self::NotRolledBack(_)
            | Self::Lost(_)
            | Self::GuestSilent(_) => (S::INTERNAL_SERVER_ERROR, None, Never),
            Self::Internal => (
                S::INTERNAL_SERVER_ERROR,
                Some("internal_server_error"),
                Never,
            ),
        }
    }

    /// What a refused step means to a client of `connect` and its kin.
    pub fn refused(refusal: Refusal, id: &str) -> Self {
        match refusal {
            Refusal::BeingKilled => Self::BeingKilled(id.to_owned()),
            Refusal::Running => Self::Running(id.to_owned()),
            Refusal::Paused => Self::Paused(id.to_owned()),
            Refusal::InTransition => Self::InTransition(id.to_owned()),
            Refusal::NotYetRunning | Refusal::Gone | Refusal::OutOfPlace => {
                Self::NoSandbox(id.to_owned())
            }
        }
    }

    /// Why a sandbox was not written down.
    pub fn captured(error: CaptureError, id: &SandboxId) -> Self {
        let name = || id.to_string();
        match error {
            CaptureError::Refused(refusal) => Self::refused(refusal, id.as_str()),
            CaptureError::Exists(checkpoint) => Self::CheckpointExists(checkpoint),
            CaptureError::Aborted => Self::NoSandbox(name()),
            CaptureError::Snapshot(SnapshotError::Unresponsive(_)) => Self::Unresponsive(name()),
            CaptureError::Snapshot(SnapshotError::Control(_)) => Self::SnapshotFailed(name()),
            CaptureError::Snapshot(SnapshotError::Lost(_)) => Self::Lost(name()),
            CaptureError::Id(_) | CaptureError::Store(_) => Self::internal(&error),
        }
    }

    /// Why network options were not replaced.
    pub fn not_replaced(error: &NetworkError, id: &SandboxId) -> Self {
        match error {
            NetworkError::Refused(Refusal::Paused) => Self::NotRunning(id.to_string()),
            NetworkError::Refused(Refusal::BeingKilled) => Self::NoSandbox(id.to_string()),
            NetworkError::Refused(refusal) => Self::refused(*refusal, id.as_str()),
            NetworkError::Egress(_) | NetworkError::Store(_) => Self::internal(error),
        }
    }

    /// Why a sandbox was not resumed.
    pub fn resumed(error: ResumeError, id: &SandboxId) -> Self {
        match error {
            ResumeError::Refused(refusal) => Self::refused(refusal, id.as_str()),
            ResumeError::Failed(CreateError::Aborted) => Self::NoSandbox(id.to_string()),
            ResumeError::Failed(error) => error.into(),
        }
    }

    /// An internal failure, logged here because the client is not told about it.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::Internal
    }
}

impl ApiError {
    /// Its body.
    pub fn body(&self) -> ErrorBody {
        let (status, error_code, _) = self.row();
        ErrorBody {
            code: status.as_u16(),
            message: self.to_string(),
            error_code,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, _, retry) = self.row();
        let body = self.body();
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match retry {
            Retry::Unsaid => {}
            Retry::Never => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            Retry::After(seconds) => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"));
                headers.insert(RETRY_AFTER, HeaderValue::from(u16::from(seconds)));
            }
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Full(full) => full.into(),
            CreateError::ShuttingDown | CreateError::Aborted => Self::ShuttingDown,
            CreateError::NoTemplate(name) => Self::NoTemplate(name),
            CreateError::Start(start @ StartError::TimedOut(_)) => {
                tracing::error!(error = %start, "a sandbox was not created");
                Self::CreateTimedOut(start.to_string())
            }
            CreateError::Start(start) => {
                tracing::error!(error = %start, "a sandbox was not created");
                Self::CreateFailed(explained(&start))
            }
            CreateError::Id(_) | CreateError::Store(_) | CreateError::Egress(_) => {
                Self::internal(&error)
            }
        }
    }
}

/// What a client may know about a failed start: not the host's paths and not the guest's console.
fn explained(error: &StartError) -> String {
    match error {
        StartError::Folder { .. } | StartError::Spawn { .. } => {
            "the host could not start its machine; the server's log has the details.".to_owned()
        }
        StartError::Died { .. } => {
            "its machine ended while it was starting; the server's log has the details.".to_owned()
        }
        StartError::Control(_) | StartError::Agent(_) | StartError::Warm(_) => {
            "its machine could not be set up; the server's log has the details.".to_owned()
        }
        StartError::TimedOut(_) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::time::Duration;

    use super::{ApiError, Full, OptionsError, StartError};
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;

    /// One example of every row. A new variant does not compile here until it is added.
    fn examples() -> Vec<ApiError> {
        let known = |error: &ApiError| match error {
            ApiError::Unauthorized
            | ApiError::Body(_)
            | ApiError::Field { .. }
            | ApiError::Query(_)
            | ApiError::Option(_)
            | ApiError::Network(_)
            | ApiError::Feature(_)
            | ApiError::NoSandbox(_)
            | ApiError::BeingKilled(_)
            | ApiError::Running(_)
            | ApiError::Paused(_)
            | ApiError::NotRunning(_)
            | ApiError::InTransition(_)
            | ApiError::Unresponsive(_)
            | ApiError::SnapshotFailed(_)
            | ApiError::SnapshotInUse { .. }
            | ApiError::NoCheckpoint(_)
            | ApiError::CheckpointExists(_)
            | ApiError::NotRolledBack(_)
            | ApiError::Lost(_)
            | ApiError::NoTemplate(_)
            | ApiError::NoRoute(_)
            | ApiError::Method(_)
            | ApiError::TooLarge(_)
            | ApiError::Full(_)
            | ApiError::KeyReused
            | ApiError::KeyInProgress
            | ApiError::ShuttingDown
            | ApiError::CreateTimedOut(_)
            | ApiError::CreateFailed(_)
            | ApiError::GuestSilent(_)
            | ApiError::Internal => true,
        };
        let examples = vec![
            ApiError::Unauthorized,
            ApiError::Body("unknown field `x`".into()),
            ApiError::Field {
                field: "timeout",
                why: "it must be at least 1".into(),
            },
            ApiError::Query("unknown field `x`".into()),
            ApiError::Option("volumeMounts"),
            ApiError::Network(OptionsError::Unsupported("rules")),
            ApiError::Feature("Tagging a template"),
            ApiError::NoSandbox("iabc".into()),
            ApiError::BeingKilled("iabc".into()),
            ApiError::Running("iabc".into()),
            ApiError::Paused("iabc".into()),
            ApiError::NotRunning("iabc".into()),
            ApiError::InTransition("iabc".into()),
            ApiError::Unresponsive("iabc".into()),
            ApiError::SnapshotFailed("iabc".into()),
            ApiError::SnapshotInUse {
                snapshot: "mine".into(),
                sandbox: "iabc".into(),
            },
            ApiError::NoCheckpoint("before".into()),
            ApiError::CheckpointExists("before".into()),
            ApiError::NotRolledBack("iabc".into()),
            ApiError::Lost("iabc".into()),
            ApiError::NoTemplate("nope".into()),
            ApiError::NoRoute("/nope".into()),
            ApiError::Method("/sandboxes".into()),
            ApiError::TooLarge(1_048_576),
            ApiError::Full(Full::Sandboxes(2)),
            ApiError::Full(Full::Memory {
                wanted_mib: 576,
                free_mib: 100,
                limit_mib: 1_000,
            }),
            ApiError::KeyReused,
            ApiError::KeyInProgress,
            ApiError::ShuttingDown,
            ApiError::CreateTimedOut(StartError::TimedOut(Duration::from_secs(60)).to_string()),
            ApiError::CreateFailed("its machine could not be set up.".into()),
            ApiError::GuestSilent("iabc".into()),
            ApiError::Internal,
        ];
        assert!(examples.iter().all(known));
        examples
    }

    #[tokio::test]
    async fn the_table() {
        let mut table = String::new();
        for error in examples() {
            let response = error.into_response();
            let status = response.status().as_u16();
            let header = |name: &str| {
                let value = response.headers().get(name);
                value.map_or("-".to_owned(), |v| v.to_str().unwrap().to_owned())
            };
            let retry = format!(
                "retry={} after={}",
                header("should-retry"),
                header("retry-after")
            );
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(body["code"], status);
            writeln!(table, "{retry} {}", String::from_utf8_lossy(&bytes)).unwrap();
        }
        insta::assert_snapshot!(table);
    }
}
