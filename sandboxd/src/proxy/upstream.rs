//! Connections to guests.
//!
//! ```text
//!   take an idle one ──► none, or it died ──► dial ──► port closed: up to 5 attempts within a second ──► HTTP/1.1
//!          ▲                                                                                              │
//!          └──────────────── answered to its end, within a few seconds ◄──────────────────────────────────┘
//! ```
//!
//! Requests go to guests as HTTP/1.1 whatever the client speaks. Connections to the agent's own ports are used again
//! for any request; those to user ports only for requests that may be sent twice (RFC 9110, 9.2.2), because a server
//! may close an idle connection at the moment a request is on its way. The key holds the stretch of time in which the
//! sandbox serves, so that a connection never outlives the incarnation it leads to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::route::Target;
use crate::lifecycle::sandbox::Serving;
use crate::machine::DialError;
use agent_protocol::{ENVD_PORT, INTERPRETER_PORT};

/// Pauses between attempts to reach a port on which nothing listens: a server that starts within a second is reached.
const PAUSES_MS: [u64; 4] = [100, 200, 300, 400];

/// How long a connection is kept idle.
const IDLE: Duration = Duration::from_secs(4);

/// Idle connections kept per port.
const MAX_IDLE: usize = 8;

/// Why a guest gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No stream could be opened.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The stream failed, or what came back is not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

type Key = (Target, u64);
type Sender = SendRequest<Body>;

/// Idle connections.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<HashMap<Key, Vec<(u64, Sender)>>>,
    next: std::sync::atomic::AtomicU64,
}

impl Pool {
    /// Sends a request to a guest and gives its answer's head.
    pub async fn send(
        self: &Arc<Self>,
        serving: &Serving,
        target: &Target,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let key = (target.clone(), serving.epoch);
        let repeatable = is_repeatable(&request);
        let switches = request.headers().contains_key(http::header::UPGRADE);
        let ours = matches!(target.port, ENVD_PORT | INTERPRETER_PORT);
        if (ours || repeatable) && !switches {
            while let Some(mut sender) = self.take(&key) {
                let spare = repeatable.then(|| copy_of(&request));
                match sender.try_send_request(request).await {
                    Ok(response) => {
                        self.keep(key, sender);
                        return Ok(response);
                    }
                    // It was never sent, or may be sent again: the idle connection had died.
                    Err(mut error) => match error.take_message().or(spare) {
                        Some(unsent) => request = unsent,
                        None => return Err(error.into_error().into()),
                    },
                }
            }
        }
        let mut sender = self.connect(serving, target).await?;
        let response = sender.send_request(request).await?;
        if (ours || repeatable) && !switches {
            self.keep(key, sender);
        }
        Ok(response)
    }

    async fn connect(&self, serving: &Serving, target: &Target) -> Result<Sender, UpstreamError> {
        let mut pauses = PAUSES_MS.into_iter();
        let stream = loop {
            match serving.machine.dial(target.port).await {
                Err(DialError::PortClosed) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(Duration::from_millis(pause)).await,
                    None => return Err(DialError::PortClosed.into()),
                },
                other => break other?,
            }
        };
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(stream))
            .await?;
        let cut = serving.cut.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = connection.with_upgrades() => {}
                () = cut.cancelled() => {}
            }
        });
        Ok(sender)
    }

    fn take(&self, key: &Key) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(key)?;
        let mut taken = None;
        while let Some((_, sender)) = kept.pop() {
            if sender.is_ready() {
                taken = Some(sender);
                break;
            }
        }
        if kept.is_empty() {
            idle.remove(key);
        }
        taken
    }

    /// Keeps a connection for the next request, from when its answer has passed until it has been idle too long.
    fn keep(self: &Arc<Self>, key: Key, mut sender: Sender) {
        let pool = self.clone();
        tokio::spawn(async move {
            if sender.ready().await.is_err() {
                return;
            }
            let number = pool.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if pool.put(&key, number, sender) {
                tokio::time::sleep(IDLE).await;
                pool.remove(&key, number);
            }
        });
    }

    fn put(&self, key: &Key, number: u64, sender: Sender) -> bool {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(key.clone()).or_default();
        let room = kept.len() < MAX_IDLE;
        if room {
            kept.push((number, sender));
        }
        room
    }

    fn remove(&self, key: &Key, number: u64) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = idle.get_mut(key) {
            kept.retain(|(other, _)| *other != number);
            if kept.is_empty() {
                idle.remove(key);
            }
        }
    }
}

/// Whether a request may be sent twice: idempotent, and without a body that would be gone.
fn is_repeatable(request: &Request<Body>) -> bool {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    idempotent && request.body().is_end_stream()
}

/// A second copy of a request without a body.
fn copy_of(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
