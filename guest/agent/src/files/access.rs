//! The start of every `/files` request: its query, its right to do this, its user and its path.

use std::path::PathBuf;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;

use super::error::FilesError;
use super::signature::{self, Claim, Operation, Refusal};
use crate::auth::{ACCESS_TOKEN_HEADER, TokenCheck, check_token};
use crate::filesystem::operations::Owner;
use crate::paths;
use crate::state::{Settings, SharedState};
use crate::users::User;

/// The query members; others are ignored.
#[derive(Debug, Default, Deserialize)]
pub struct FilesQuery {
    /// The file. For forms it may be absent: the parts' file names are used then.
    pub path: Option<String>,
    /// Who reads or writes; the sandbox's default user when absent.
    pub username: Option<String>,
    /// See [`signature`].
    pub signature: Option<String>,
    /// In seconds since 1970.
    pub signature_expiration: Option<i64>,
}

/// An admitted request.
#[derive(Debug)]
pub struct Access {
    /// On whose behalf.
    pub user: User,
    /// The query's path as it was written.
    pub path: Option<String>,
    default_workdir: Option<String>,
}

impl Access {
    /// Checks token or signature, then finds the user.
    ///
    /// # Errors
    /// The first that fails, in this order: the query, the right, the user.
    pub fn check(
        state: &SharedState,
        headers: &HeaderMap,
        query: Result<Query<FilesQuery>, QueryRejection>,
        operation: Operation,
    ) -> Result<Self, FilesError> {
        let Query(query) = query.map_err(|error| FilesError::Query(error.body_text()))?;
        let settings = state.settings();
        authorize(&settings, headers, &query, operation)?;
        Self::for_user(state, query.username.as_deref(), query.path)
    }

    /// Finds the user of a request that is admitted already.
    ///
    /// # Errors
    /// [`FilesError::User`].
    pub fn for_user(
        state: &SharedState,
        username: Option<&str>,
        path: Option<String>,
    ) -> Result<Self, FilesError> {
        let settings = state.settings();
        let name = username
            .filter(|name| !name.is_empty())
            .unwrap_or(&settings.default_user);
        Ok(Self {
            user: state.users().by_name(name)?,
            path,
            default_workdir: settings.default_workdir.clone(),
        })
    }

    /// Where `path` leads for this user.
    ///
    /// # Errors
    /// [`FilesError::Path`].
    pub fn resolve(&self, path: &str) -> Result<PathBuf, FilesError> {
        Ok(paths::resolve(
            path,
            &self.user,
            self.default_workdir.as_deref(),
        )?)
    }

    /// Who gets what is made.
    pub fn owner(&self) -> Owner {
        Owner {
            uid: self.user.uid,
            gid: self.user.gid,
        }
    }
}

fn authorize(
    settings: &Settings,
    headers: &HeaderMap,
    query: &FilesQuery,
    operation: Operation,
) -> Result<(), Refusal> {
    // An empty token header counts as none.
    let given = headers
        .get(ACCESS_TOKEN_HEADER)
        .filter(|value| !value.is_empty());
    if check_token(settings, headers) == TokenCheck::Mismatch {
        return Err(Refusal::TokenMismatch);
    }
    let claim = Claim {
        token: given.and_then(|value| value.to_str().ok()),
        signature: query.signature.as_deref(),
        expiration: query.signature_expiration,
        path: query.path.as_deref().unwrap_or_default(),
        user: query.username.as_deref().unwrap_or_default(),
    };
    let token = settings.access_token.as_ref().map(|token| token.expose());
    signature::authorize(token, &claim, operation, Timestamp::now().as_second())
}
