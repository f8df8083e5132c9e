//! Connect plumbing shared by the process and filesystem services.
//!
//! The protocol itself is the `connectrpc` crate's: unary, server and client streams, JSON and binary codecs, HTTP/1.1
//! and h2c, end-of-stream errors. It fits this agent because
//!
//! - without `enforce_on_streams` a deadline bounds only the time to the first response, so the process service itself
//!   decides what `Connect-Timeout-Ms` does to a running process,
//! - handlers see every request header (`Authorization`, `Keepalive-Ping-Interval`),
//! - client streams are delivered while they arrive, also on HTTP/1.1,
//! - built without its compression features it never compresses, which the SDKs ask for.

use std::time::Duration;

use axum::http::HeaderMap;
use connectrpc::{ConnectError, ConnectRpcService, Limits, RequestContext, Router};

use crate::auth::{self, AuthError};
use crate::errors::Fault;
use crate::state::{Settings, SharedState};
use crate::users::{User, UserDb};

/// Largest message in bytes; standard input in JSON is base64, so 12 MiB of input fit into one call.
pub const MAX_MESSAGE_LEN: usize = 16 << 20;

/// Idle time after which a stream sends a keep-alive when the client asks for no other interval (envd: 90 s).
pub const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(90);

/// Header with which a client asks for another keep-alive interval, in seconds.
pub const KEEPALIVE_HEADER: &str = "keepalive-ping-interval";

/// Makes the HTTP service of registered Connect services.
#[must_use]
pub fn into_service(router: Router) -> ConnectRpcService {
    let limits = Limits::default()
        .with_max_message_size(MAX_MESSAGE_LEN)
        .with_max_request_body_size(MAX_MESSAGE_LEN + 64);
    ConnectRpcService::new(router).with_limits(limits)
}

/// Interval of keep-alives on a stream: what the header asks for in whole seconds, else the default. Zero and
/// nonsense mean the default.
#[must_use]
pub fn keepalive_interval(headers: &HeaderMap) -> Duration {
    headers
        .get(KEEPALIVE_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse::<u32>().ok())
        .filter(|seconds| *seconds > 0)
        .map_or(DEFAULT_KEEPALIVE, |seconds| {
            Duration::from_secs(seconds.into())
        })
}

/// Who calls, with the settings and users of the moment the call began.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user that the call runs as.
    pub user: User,
    /// Settings as of the start of the call.
    pub settings: std::sync::Arc<Settings>,
    /// Users and groups as of the start of the call.
    pub users: UserDb,
}

impl Caller {
    /// Reads the caller out of the request's headers.
    ///
    /// # Errors
    /// [`AuthError`] when the named user is unknown or the header unusable.
    pub fn from_headers(state: &SharedState, headers: &HeaderMap) -> Result<Self, AuthError> {
        let (settings, users) = (state.settings(), state.users());
        let user = auth::caller(&settings, &users, headers)?;
        Ok(Self {
            user,
            settings,
            users,
        })
    }

    /// The same for a Connect call.
    ///
    /// # Errors
    /// `unauthenticated` when the named user is unknown or the header unusable.
    pub fn from_context(state: &SharedState, ctx: &RequestContext) -> Result<Self, ConnectError> {
        Self::from_headers(state, ctx.headers()).map_err(|error| Fault::from(error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn keepalive_interval_is_whole_positive_seconds() {
        let interval = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(KEEPALIVE_HEADER, HeaderValue::from_static(value));
            }
            keepalive_interval(&headers)
        };
        assert_eq!(interval(Some("50")), Duration::from_secs(50));
        assert_eq!(interval(Some(" 1 ")), Duration::from_secs(1));
        for absent in [
            None,
            Some("0"),
            Some("-1"),
            Some("1.5"),
            Some("x"),
            Some("99999999999"),
        ] {
            assert_eq!(interval(absent), DEFAULT_KEEPALIVE);
        }
    }
}
