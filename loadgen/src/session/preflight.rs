//! Is there a target at all? One whole sandbox, before anything is measured, so that a wrong address, key or template is a
//! sentence and not a column of failures.

use crate::drive::Ledger;
use crate::e2b::target::Route;
use crate::e2b::{CallError, Client};

/// Why a target is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Nobody there.
    #[error("no server at {url}: {source}")]
    NoServer {
        /// Where.
        url: String,
        /// Why.
        source: CallError,
    },
    /// The key.
    #[error("the server at {url} refuses the API key: {source}")]
    Key {
        /// Where.
        url: String,
        /// Its words.
        source: CallError,
    },
    /// Something else listens there.
    #[error("what answers at {url} does not speak the E2B API: GET /v2/sandboxes: {source}")]
    NotE2b {
        /// Where.
        url: String,
        /// What it said.
        source: CallError,
    },
    /// No sandbox can be made.
    #[error("the server at {url} makes no sandbox of template `{template}`: {source}")]
    Create {
        /// Where.
        url: String,
        /// Of which template.
        template: String,
        /// Its words.
        source: CallError,
    },
    /// The sandbox cannot be reached.
    #[error("a sandbox was made, but no command reaches it through {through}: {source}")]
    Silent {
        /// How it was tried.
        through: String,
        /// What came of it.
        source: CallError,
    },
    /// It does not go away.
    #[error("a sandbox was made, but cannot be killed: {source}")]
    Kill {
        /// What came of it.
        source: CallError,
    },
}

/// Asks for a list, makes a sandbox, runs a command in it, kills it.
///
/// # Errors
/// See [`PreflightError`].
pub async fn check(client: &Client, ledger: &Ledger) -> Result<(), PreflightError> {
    let url = client.target.api.to_string();
    client.list(ledger.run()).await.map_err(|source| {
        let url = url.clone();
        match source.status() {
            _ if source.is_unreachable() => PreflightError::NoServer { url, source },
            Some(401 | 403) => PreflightError::Key { url, source },
            _ => PreflightError::NotE2b { url, source },
        }
    })?;
    let sandbox = client.create(ledger.run(), None).await;
    let sandbox = sandbox
        .map_err(|source| match source.status() {
            Some(401) => PreflightError::Key { url, source },
            _ => PreflightError::Create {
                url,
                template: client.target.template.clone(),
                source,
            },
        })?
        .value;
    ledger.made(&sandbox.id);
    let answered = client.answers(&sandbox).await;
    let killed = client.kill(&sandbox).await;
    if killed.is_ok() {
        ledger.gone(&sandbox.id);
    }
    answered.map_err(|source| PreflightError::Silent {
        through: through(&client.target.route),
        source,
    })?;
    killed.map_err(|source| PreflightError::Kill { source })?;
    Ok(())
}

fn through(route: &Route) -> String {
    match route {
        Route::Headers(origin) => format!("{origin} with E2b-Sandbox-Id headers"),
        Route::Domain { domain, .. } => format!("PORT-ID.{domain}"),
    }
}
