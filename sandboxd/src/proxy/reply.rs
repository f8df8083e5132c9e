//! The proxy's own answers: one table of status, message and members.
//!
//! The words of the two 502s are part of the interface: SDKs look for "was not found" and "port is not open" in them to
//! tell a sandbox that is gone from a service that is not up.
//!
//! Browsers get a page, programs get JSON. A request looks like a program's when it accepts JSON, was made by a script
//! (`Sec-Fetch-Mode: cors`, `X-Requested-With`), or does not come from a browser.

use axum::body::Body;
use http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::access::{ACCESS_TOKEN, Denied, TRAFFIC_TOKEN};
use super::route::{RouteError, Target};
use super::signed::SignedError;
use crate::admission::Full;
use crate::lifecycle::create::CreateError;
use crate::lifecycle::resume::ResumeError;
use crate::lifecycle::state::Refusal;

/// Every answer that the proxy gives in a guest's place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reply {
    /// The request names no sandbox and port in a way that can be read.
    #[error("{0}")]
    Unroutable(#[from] RouteError),
    /// The signed URL leads to no sandbox.
    #[error("{0}")]
    Unsigned(#[from] SignedError),
    /// No such sandbox runs.
    #[error("The sandbox was not found")]
    NotFound(Target),
    /// Nothing listens on the port.
    #[error("The sandbox is running but port is not open")]
    PortClosed(Target),
    /// The service closed the connection without an answer, or its answer is not HTTP.
    #[error("The sandbox is running but the service on this port gave no valid answer")]
    NoAnswer(Target),
    /// The agent in the guest does not answer.
    #[error("The sandbox is running but does not answer")]
    Silent(Target),
    /// All places for connections are taken.
    #[error("The sandbox has too many connections")]
    TooMany {
        /// For whom.
        target: Target,
        /// How many there may be.
        limit: usize,
    },
    /// The traffic token is missing.
    #[error("The header {TRAFFIC_TOKEN} is missing")]
    TokenMissing(Target),
    /// The traffic token is wrong.
    #[error("The header {TRAFFIC_TOKEN} is invalid")]
    TokenInvalid(Target),
    /// The sandbox is paused, and the token that would wake it is missing or wrong.
    #[error("The header {ACCESS_TOKEN} is missing or invalid")]
    AccessTokenInvalid(Target),
    /// An operation on the sandbox takes too long.
    #[error("The sandbox is still transitioning")]
    InTransition(Target),
    /// The sandbox is paused and there is no room to wake it.
    #[error("The sandbox is paused and cannot be resumed: {0}")]
    NoRoom(Full, Target),
    /// The sandbox is paused and could not be woken.
    #[error("The sandbox is paused and could not be resumed")]
    NotWoken(Target),
    /// The path is not for clients.
    #[error("The path is not available")]
    Internal(String),
    /// The method makes no sense to a port of a sandbox.
    #[error("The CONNECT method is not supported")]
    Connect,
}

/// Body of a reply.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox_id: Option<&'a str>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_limit: Option<usize>,
}

impl Reply {
    /// A judgement about a request to a target.
    pub fn denied(denied: Denied, target: Target) -> Self {
        match denied {
            Denied::Internal(path) => Self::Internal(path),
            Denied::TokenMissing => Self::TokenMissing(target),
            Denied::TokenInvalid => Self::TokenInvalid(target),
        }
    }

    /// Why a paused sandbox was not woken.
    pub fn not_woken(error: ResumeError, target: Target) -> Self {
        match error {
            ResumeError::Refused(Refusal::InTransition) => Self::InTransition(target),
            ResumeError::Refused(_) | ResumeError::Failed(CreateError::Aborted) => {
                Self::NotFound(target)
            }
            ResumeError::Failed(CreateError::Full(full)) => Self::NoRoom(full, target),
            ResumeError::Failed(_) => Self::NotWoken(target),
        }
    }

    /// Whether the guest was to be reached but could not.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::PortClosed(_) | Self::NoAnswer(_) | Self::Silent(_)
        )
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Unroutable(_) => StatusCode::BAD_REQUEST,
            Self::Unsigned(_) => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) | Self::PortClosed(_) | Self::NoAnswer(_) | Self::Silent(_) => {
                StatusCode::BAD_GATEWAY
            }
            Self::TooMany { .. } | Self::NoRoom(..) => StatusCode::TOO_MANY_REQUESTS,
            Self::TokenMissing(_) | Self::TokenInvalid(_) | Self::AccessTokenInvalid(_) => {
                StatusCode::FORBIDDEN
            }
            Self::InTransition(_) => StatusCode::CONFLICT,
            Self::NotWoken(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::NOT_FOUND,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn members(&self) -> Members<'_> {
        let mut members = Members {
            message: self.to_string(),
            code: self.status().as_u16(),
            ..Members::default()
        };
        match self {
            Self::PortClosed(target) | Self::NoAnswer(target) => {
                members.sandbox_id = Some(target.id.as_str());
                members.port = Some(target.port);
            }
            Self::TooMany { target, limit } => {
                members.sandbox_id = Some(target.id.as_str());
                members.connection_limit = Some(*limit);
            }
            Self::NotFound(target)
            | Self::Silent(target)
            | Self::TokenMissing(target)
            | Self::AccessTokenInvalid(target)
            | Self::InTransition(target)
            | Self::NoRoom(_, target)
            | Self::NotWoken(target)
            | Self::TokenInvalid(target) => members.sandbox_id = Some(target.id.as_str()),
            Self::Internal(path) => members.path = Some(path),
            Self::Unroutable(_) | Self::Unsigned(_) | Self::Connect => {}
        }
        members
    }

    /// The answer to a request with these headers.
    pub fn answer(&self, request: &HeaderMap) -> Response<Body> {
        let members = self.members();
        let (kind, text) = if matches!(self, Self::Unroutable(_)) {
            ("text/plain; charset=utf-8", members.message)
        } else if is_browser(request) {
            ("text/html; charset=utf-8", page(&members))
        } else {
            let text = serde_json::to_string(&members).unwrap_or_default();
            ("application/json; charset=utf-8", text)
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }
}

fn is_browser(headers: &HeaderMap) -> bool {
    let says = |name: &str, word: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|text| text.to_ascii_lowercase().contains(word))
    };
    let programmatic = says(ACCEPT.as_str(), "json")
        || says("sec-fetch-mode", "cors")
        || headers.contains_key("x-requested-with");
    says(USER_AGENT.as_str(), "mozilla/") && !programmatic
}

fn page(members: &Members<'_>) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let about = match (members.sandbox_id, members.port) {
        (Some(id), Some(port)) => format!("<p>Sandbox <code>{id}</code>, port {port}</p>"),
        (Some(id), None) => format!("<p>Sandbox <code>{id}</code></p>"),
        _ => String::new(),
    };
    let message = escape(&members.message);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{code}</title></head>\
         <body><h1>{code}</h1><p>{message}</p>{about}</body></html>\n",
        code = members.code,
    )
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use http::{HeaderMap, HeaderValue};
    use http_body_util::BodyExt;

    use super::{Reply, RouteError, SignedError, Target};
    use crate::ids::SandboxId;

    fn target() -> Target {
        Target {
            id: SandboxId::parse("iabc").unwrap(),
            port: 3_000,
        }
    }

    async fn text(reply: &Reply, headers: &HeaderMap) -> (u16, String, String) {
        let response = reply.answer(headers);
        let kind = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, kind, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_table() {
        let mut table = String::new();
        for reply in [
            Reply::Unroutable(RouteError::Headers),
            Reply::Unsigned(SignedError::Missing),
            Reply::Unsigned(SignedError::Invalid),
            Reply::NotFound(target()),
            Reply::PortClosed(target()),
            Reply::NoAnswer(target()),
            Reply::Silent(target()),
            Reply::TooMany {
                target: target(),
                limit: 4,
            },
            Reply::TokenMissing(target()),
            Reply::TokenInvalid(target()),
            Reply::AccessTokenInvalid(target()),
            Reply::InTransition(target()),
            Reply::NoRoom(crate::admission::Full::Sandboxes(4), target()),
            Reply::NotWoken(target()),
            Reply::Internal("/init".to_owned()),
            Reply::Connect,
        ] {
            let (status, kind, text) = text(&reply, &HeaderMap::new()).await;
            writeln!(table, "{status} {kind}\n    {text}").unwrap();
        }
        insta::assert_snapshot!(table);
    }

    #[tokio::test]
    async fn browsers_get_a_page_and_scripts_in_them_do_not() {
        let reply = Reply::PortClosed(target());
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("Mozilla/5.0 (X11)"));
        let (_, kind, html) = text(&reply, &headers).await;
        assert_eq!(kind, "text/html; charset=utf-8");
        insta::assert_snapshot!(html);
        for (name, value) in [
            ("accept", "application/json"),
            ("sec-fetch-mode", "cors"),
            ("x-requested-with", "XMLHttpRequest"),
        ] {
            let mut headers = headers.clone();
            headers.insert(name, HeaderValue::from_static(value));
            let (_, kind, _) = text(&reply, &headers).await;
            assert_eq!(kind, "application/json; charset=utf-8", "{name}");
        }
    }
}
