//! POST /files/compose: joins files into one and removes the pieces.
//!
//! ```text
//! {"source_paths": ["a.0", "a.1"], "destination": "a", "username": "user"}
//!
//! sources ──copied in order──► <destination's directory>/.<name>.<random> ──rename──► destination
//!     └── removed last
//! ```
//!
//! The destination appears in one step, or stays what it was.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::Deserialize;
use uuid::Uuid;

use super::access::Access;
use super::error::FilesError;
use super::upload::Written;
use super::write::{self, blocking};
use crate::filesystem::metadata::Metadata;
use crate::filesystem::operations::Owner;
use crate::state::SharedState;

/// The request.
#[derive(Debug, Deserialize)]
pub struct Composition {
    /// The pieces, in order. At least one.
    source_paths: Vec<String>,
    /// The file to make.
    destination: String,
    /// Who does it; the sandbox's default user when absent.
    username: Option<String>,
}

/// The handler. The router has checked the access token.
///
/// # Errors
/// See [`FilesError`].
pub async fn post(
    State(state): State<SharedState>,
    request: Result<Json<Composition>, JsonRejection>,
) -> Result<Json<Written>, FilesError> {
    let Json(request) = request.map_err(|error| FilesError::Composition(error.body_text()))?;
    if request.source_paths.is_empty() {
        return Err(FilesError::Composition(
            "source_paths must not be empty".to_owned(),
        ));
    }
    if request.destination.is_empty() {
        return Err(FilesError::Composition(
            "destination is required".to_owned(),
        ));
    }
    let access = Access::for_user(&state, request.username.as_deref(), None)?;
    let destination = access.resolve(&request.destination)?;
    let sources = request
        .source_paths
        .iter()
        .map(|source| access.resolve(source))
        .collect::<Result<Vec<_>, _>>()?;
    if sources.contains(&destination) {
        let message = format!("source path {destination:?} cannot be the same as destination");
        return Err(FilesError::Composition(message));
    }
    let owner = access.owner();
    blocking(move || {
        compose(&sources, &destination, owner)?;
        Ok(Json(Written::new(&destination, Metadata::new())))
    })
    .await
}

fn compose(sources: &[PathBuf], destination: &Path, owner: Owner) -> Result<(), FilesError> {
    // All are looked at before anything is made.
    for source in sources {
        let found = fs::metadata(source).map_err(|error| FilesError::io("stat", source, error))?;
        if found.is_dir() {
            return Err(FilesError::IsDirectory(source.clone()));
        }
        if !found.is_file() {
            return Err(FilesError::NotRegular(source.clone()));
        }
    }
    let name = destination
        .file_name()
        .ok_or_else(|| FilesError::IsDirectory(destination.into()))?;
    let staging = destination.with_file_name(format!(
        ".{}.{}",
        name.to_string_lossy(),
        Uuid::new_v4().simple()
    ));
    let (output, _) = write::open(&staging, owner)?;
    let joined = join(sources, output).and_then(|()| {
        fs::rename(&staging, destination)
            .map_err(|error| FilesError::io("replace", destination, error))
    });
    if let Err(error) = joined {
        // The first error is the one to tell.
        let _ = fs::remove_file(&staging);
        return Err(error);
    }
    for source in sources {
        match fs::remove_file(source) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FilesError::io("remove", source, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn join(sources: &[PathBuf], mut output: File) -> Result<(), FilesError> {
    for source in sources {
        let failed = |error| FilesError::io("copy", source, error);
        let mut input = File::open(source).map_err(failed)?;
        // On Linux the kernel copies.
        io::copy(&mut input, &mut output).map_err(failed)?;
    }
    Ok(())
}
