//! What a fault does on the wire: a well-formed reply, or a script of bytes, pauses and an end.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

/// A reply that HTTP has no objection to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers; the length is added when it is sent.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

/// Outcome of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Sent as HTTP.
    Reply(Reply),
    /// Sent as it stands, on the bare connection, which it ends.
    Raw(Vec<Step>),
}

/// One step on a bare connection. After the last one it is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bytes, at once.
    Send(Bytes),
    /// Nothing for a time; ends early when the client leaves.
    Pause(Duration),
    /// Bytes one by one with pauses between them.
    Dribble {
        /// The bytes.
        bytes: Bytes,
        /// Pause after each.
        gap: Duration,
    },
    /// The same bytes again and again; nothing is held in memory but one copy.
    Repeat {
        /// The bytes.
        bytes: Bytes,
        /// How often.
        times: u64,
    },
    /// RST instead of FIN.
    Reset,
}

impl Reply {
    /// An empty reply.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// A JSON reply; `kind` is its content type.
    pub fn json(status: u16, kind: &str, body: &Value) -> Self {
        Self::new(status)
            .with("content-type", kind)
            .body(body.to_string())
    }

    /// An error by RFC 9457.
    pub fn problem(status: u16, title: &str, more: Value) -> Self {
        let mut body = serde_json::json!({"type": "about:blank", "title": title, "status": status});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Self::json(status, "application/problem+json", &body)
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn value(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Status line and headers as bytes, with this length instead of the body's; `None` leaves it out.
    pub fn head(&self, length: Option<u64>) -> Bytes {
        let reason = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("");
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(length) = length {
            head += &format!("content-length: {length}\r\n");
        }
        (head + "connection: close\r\n\r\n").into()
    }
}
