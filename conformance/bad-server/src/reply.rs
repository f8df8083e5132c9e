//! Answers, and the reading of queries.

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

pub fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub fn bare(code: u16, kind: &str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status(code);
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

pub fn json(code: u16, body: &Value) -> Response {
    bare(code, "application/json", body.to_string())
}

pub fn empty(code: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status(code);
    response
}

pub fn with(mut response: Response, name: &'static str, value: &str) -> Response {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// An error of the control API.
pub fn error(w: &World, code: u16, message: &str) -> Response {
    coded(w, code, message, None)
}

/// The same with a word for programs.
pub fn coded(w: &World, code: u16, message: &str, word: Option<&str>) -> Response {
    let shown = if w.on("error-code-as-string") {
        json!(code.to_string())
    } else {
        json!(code)
    };
    let mut body = json!({ "code": shown, "message": message });
    if w.on("error-without-message") {
        body = json!({ "code": shown, "detail": message });
    }
    if let Some(word) = word {
        body["error_code"] = json!(word);
    }
    if w.on("errors-as-plain-type") {
        return bare(code, "text/plain", body.to_string());
    }
    json(code, &body)
}

pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Undoes percent-encoding; `plus` says whether `+` is a space.
pub fn decoded(text: &str, plus: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) if plus => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A query parameter.
pub fn query(text: &str, name: &str) -> Option<String> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| decoded(value, true))
}
