//! A request as a check writes it. Nothing is added on the way but `Host` and the body's framing.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::dial::Way;

/// How the body's length is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    #[default]
    Length,
    /// `Transfer-Encoding: chunked`, as the JavaScript SDK does.
    Chunked,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// How to connect.
    pub way: Way,
    /// Method.
    pub method: Method,
    /// Scheme, host and port to connect to: `http://127.0.0.1:3000`.
    pub origin: String,
    /// Value of `Host`, where it is not the origin's.
    pub host: Option<String>,
    /// Path and query, percent-encoded.
    pub path: String,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// How its length is told.
    pub framing: Framing,
    /// Time for the whole exchange, or for the head of a streamed one.
    pub limit: Duration,
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub fn new(way: &Way, method: Method, origin: &str, path: &str, limit: Duration) -> Self {
        Self {
            way: way.clone(),
            method,
            origin: origin.to_owned(),
            host: None,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            framing: Framing::default(),
            limit,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Takes all headers of a name away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        self
    }

    /// Puts one header in the place of all of its name.
    #[must_use]
    pub fn with(self, name: &str, value: impl Into<String>) -> Self {
        self.without(name).header(name, value)
    }

    /// A JSON body with its content type.
    #[must_use]
    pub fn json(self, value: &Value) -> Self {
        self.with("content-type", "application/json")
            .body(value.to_string())
    }

    /// A body; its content type is the caller's.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the body in chunks.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Another `Host` than the one connected to.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Another time limit.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}
