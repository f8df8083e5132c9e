//! Answers of a stub.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

/// An answer.
pub type Answer = Response<Full<Bytes>>;

/// JSON.
#[must_use]
pub fn json_of(status: StatusCode, value: &Value) -> Answer {
    bytes(status, "application/json", Bytes::from(value.to_string()))
}

/// Bytes of a kind.
#[must_use]
pub fn bytes(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert("content-type", kind);
    answer
}

/// 204.
#[must_use]
pub fn nothing() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// An error as E2B words it.
#[must_use]
pub fn error(status: StatusCode, message: &str) -> Answer {
    json_of(
        status,
        &json!({"code": status.as_u16(), "message": message}),
    )
}

/// The proxy's answer for a sandbox that is not there.
#[must_use]
pub fn not_running(id: &str) -> Answer {
    let body = json!({"sandboxId": id, "message": "The sandbox was not found", "code": 502});
    json_of(StatusCode::BAD_GATEWAY, &body)
}
