//! Is there a target at all? One clear sentence instead of a hundred red rows.
//!
//! ```text
//!  GET /v2/sandboxes ──► create ──► GET /health of the agent ──► kill
//!   dead? wrong key?      template?   sandboxes reached?
//! ```

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::check::Stop;
use crate::context::Context;
use crate::sandbox::{AGENT, Sandbox};
use crate::wire::http1::HttpError;

/// Why the target cannot be tested.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Nobody there.
    #[error("nothing answers at {url}: {source}")]
    Dead {
        /// Where.
        url: String,
        /// Why.
        source: HttpError,
    },
    /// Somebody else there.
    #[error("{url} answers, but not like an E2B API: GET /v2/sandboxes gave {got}")]
    Other {
        /// Where.
        url: String,
        /// What came.
        got: String,
    },
    /// Wrong key.
    #[error("{0} refuses the API key (401)")]
    Key(String),
    /// No sandbox to be had.
    #[error("no sandbox can be created from template `{template}`: {got}")]
    Create {
        /// Of which.
        template: String,
        /// What came.
        got: String,
    },
    /// Sandboxes are not reached.
    #[error(
        "a sandbox was created, but its agent is not reached ({got}); look at --sandbox-url and --domain"
    )]
    Door {
        /// What came.
        got: String,
    },
    /// The suite's own mistake.
    #[error("the suite failed: {0}")]
    Ours(String),
}

/// What is known of the target afterwards.
#[derive(Clone, Debug)]
pub struct Found {
    /// Version of the agent.
    pub envd_version: String,
}

/// Looks at the target.
///
/// # Errors
/// See [`PreflightError`].
pub async fn look(c: &Context) -> Result<Found, PreflightError> {
    let url = c.target().url.clone();
    let listing = c
        .api(Method::GET, "/v2/sandboxes?limit=1")
        .within(c.limit(10.0));
    let reply = c
        .exchange(&listing)
        .await
        .map_err(|source| PreflightError::Dead {
            url: url.clone(),
            source,
        })?;
    match (
        reply.status.as_u16(),
        serde_json::from_slice::<Value>(&reply.body),
    ) {
        (401 | 403, _) => return Err(PreflightError::Key(url)),
        (200, Ok(Value::Array(_))) => {}
        _ => {
            return Err(PreflightError::Other {
                url,
                got: reply.brief(),
            });
        }
    }
    let template = c.target().template.clone();
    let refused = |got: String| PreflightError::Create {
        template: template.clone(),
        got,
    };
    let reply = c.create(json!({ "timeout": 60 })).await.map_err(ours)?;
    if !reply.status.is_success() {
        return Err(refused(reply.brief()));
    }
    let body = reply.json().map_err(|_| refused(reply.brief()))?;
    let sandbox = Sandbox::read(&body).map_err(|_| refused(reply.brief()))?;
    let reached = reached(c, &sandbox).await;
    c.done(&sandbox).await;
    reached.map(|()| Found {
        envd_version: sandbox.version,
    })
}

async fn reached(c: &Context, sandbox: &Sandbox) -> Result<(), PreflightError> {
    let mut got = String::new();
    for _ in 0..5 {
        let health = sandbox
            .port(c, Method::GET, AGENT, "/health")
            .within(c.limit(10.0));
        match c.exchange(&health).await {
            Ok(reply) if reply.status.is_success() => return Ok(()),
            Ok(reply) => got = reply.brief(),
            Err(error) => got = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(PreflightError::Door { got })
}

fn ours(stop: Stop) -> PreflightError {
    match stop {
        Stop::Fail { actual, .. } => PreflightError::Ours(actual),
        Stop::Untestable(why) | Stop::Harness(why) => PreflightError::Ours(why),
    }
}
