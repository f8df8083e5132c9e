//! The Connect protocol, in JSON.

use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::reply::{bare, json as answer};
use crate::world::World;

/// An error of a call.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
}

impl Failure {
    pub fn new(code: &'static str, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
        }
    }

    fn status(&self) -> u16 {
        match self.code {
            "invalid_argument" | "failed_precondition" => 400,
            "unauthenticated" => 401,
            "permission_denied" => 403,
            "not_found" => 404,
            "already_exists" => 409,
            "resource_exhausted" => 429,
            "unimplemented" => 501,
            "unavailable" => 503,
            _ => 500,
        }
    }
}

/// The message of a unary call.
pub fn message(w: &World, body: &[u8]) -> Result<Value, Failure> {
    let value: Value = serde_json::from_slice(body).map_err(|_| {
        let code = if w.on("malformed-call-internal") {
            "internal"
        } else {
            "invalid_argument"
        };
        Failure::new(code, "the message is not JSON")
    })?;
    if w.on("unknown-member-refused") && value.get("fromTheFuture").is_some() {
        return Err(Failure::new("invalid_argument", "unknown member"));
    }
    Ok(value)
}

pub fn unary(w: &World, result: Result<Value, Failure>) -> Response {
    match result {
        Ok(value) if w.on("unary-as-text") => bare(200, "text/plain", value.to_string()),
        Ok(value) => answer(200, &value),
        Err(failure) if w.on("call-errors-200") => answer(
            200,
            &json!({ "code": failure.code, "message": failure.message }),
        ),
        Err(failure) if w.on("call-errors-as-text") => {
            bare(failure.status(), "text/plain", failure.message)
        }
        Err(failure) => answer(
            failure.status(),
            &json!({ "code": failure.code, "message": failure.message }),
        ),
    }
}

/// One frame.
pub fn frame(flags: u8, payload: &Value) -> Bytes {
    let text = payload.to_string();
    let mut out = vec![flags];
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    out.into()
}

/// The last frame of a stream.
pub fn end(failure: Option<&Failure>) -> Bytes {
    let payload = match failure {
        None => json!({}),
        Some(failure) => json!({ "error": { "code": failure.code, "message": failure.message } }),
    };
    frame(2, &payload)
}

/// The messages of a client's frames.
pub fn messages(body: &[u8]) -> Result<Vec<Value>, Failure> {
    let wrong = || Failure::new("invalid_argument", "the frames are not valid");
    let mut rest = body;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let head: [u8; 5] = rest
            .get(..5)
            .and_then(|head| head.try_into().ok())
            .ok_or_else(wrong)?;
        let length = usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]]))
            .unwrap_or(usize::MAX);
        let payload = rest
            .get(5..5usize.saturating_add(length))
            .ok_or_else(wrong)?;
        out.push(serde_json::from_slice(payload).map_err(|_| wrong())?);
        rest = &rest[5 + length..];
    }
    Ok(out)
}
