//! What can go wrong in the code interpreter. Its HTTP errors are plain text: clients show body and status.

use std::io;
use std::path::PathBuf;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::jupyter::connection::ConnectionError;
use crate::auth::AuthError;
use crate::paths::PathError;
use crate::process::launch::LaunchError;
use crate::users::UserError;

/// A refused or failed call.
#[derive(Debug, thiserror::Error)]
pub enum InterpreterError {
    /// The sandbox's token is missing or wrong.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The body is not what it should be.
    #[error("the request cannot be read: {0}")]
    Request(String),
    /// Both ways of choosing a context at once.
    #[error("Only one of context_id or language can be provided")]
    TwoSelectors,
    /// No context of that id.
    #[error("Context {0} not found")]
    UnknownContext(String),
    /// The image has no kernel for a language.
    #[error(
        "no kernel for language {language:?} is installed in this sandbox; installed: {installed}"
    )]
    NoKernel {
        /// As asked for.
        language: String,
        /// What there is instead.
        installed: String,
    },
    /// A variable that cannot be set.
    #[error("{0:?} cannot be set as an environment variable")]
    BadVariable(String),
    /// A kernel whose environment cannot be changed while it runs.
    #[error("env_vars are not supported for language {0:?}; set them inside the code")]
    NoEnvironment(String),
    /// More contexts than a sandbox may have.
    #[error("there are {0} contexts already; delete some first")]
    TooManyContexts(usize),
    /// The working directory cannot be used.
    #[error("Failed to set working directory: {0}")]
    Path(#[from] PathError),
    /// The sandbox's default user is gone.
    #[error(transparent)]
    User(#[from] UserError),
    /// A kernel could not be started, or ended at once.
    #[error("the kernel of context {id} ({language}) is not running: {reason}")]
    NotRunning {
        /// The context.
        id: String,
        /// Its language.
        language: String,
        /// What the last start failed with.
        reason: String,
    },
}

impl InterpreterError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Auth(AuthError::NotConfigured) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Auth(_) => StatusCode::UNAUTHORIZED,
            Self::Request(_)
            | Self::TwoSelectors
            | Self::NoKernel { .. }
            | Self::BadVariable(_)
            | Self::NoEnvironment(_) => StatusCode::BAD_REQUEST,
            Self::UnknownContext(_) => StatusCode::NOT_FOUND,
            Self::TooManyContexts(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Path(_) | Self::User(_) | Self::NotRunning { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

impl IntoResponse for InterpreterError {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}

/// Why a kernel could not be started.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Its program.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Its sockets.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Its directory or connection file.
    #[error("cannot prepare {}: {source}", .path.display())]
    Prepare {
        /// The directory or file.
        path: PathBuf,
        /// What the kernel of the operating system said.
        source: io::Error,
    },
    /// It ended before it answered.
    #[error("it ended at once ({0})")]
    Ended(String),
    /// It runs and does not answer.
    #[error("it did not answer within {0} seconds")]
    Silent(u64),
}
