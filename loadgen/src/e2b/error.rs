//! What can go wrong in a call.

use http::StatusCode;

use crate::wire::envelope::FrameError;
use crate::wire::{Reply, WireError};

/// Longest message of a server that is kept.
const MESSAGE: usize = 300;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There was no reply.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server refused.
    #[error("HTTP {}: {message}", status.as_u16())]
    Status {
        /// Its status.
        status: StatusCode,
        /// Its message, cut to a few hundred bytes.
        message: String,
    },
    /// A reply without what it must hold.
    #[error("the answer has no {0}")]
    Lacks(&'static str),
    /// A stream that is none.
    #[error("the stream is broken: {0}")]
    Frame(#[from] FrameError),
    /// A stream that ended with an error.
    #[error("{code}: {message}")]
    Stream {
        /// Connect's code.
        code: String,
        /// The message.
        message: String,
    },
    /// The command did not do what it always does.
    #[error("the command ended with {0}")]
    Exit(i64),
    /// The code did not give what it always gives.
    #[error("the code gave {0:?}")]
    Result(String),
    /// A file came back changed.
    #[error("the file came back changed")]
    Content,
}

impl CallError {
    /// Takes a reply that is no success for an error.
    ///
    /// # Errors
    /// When its status is not 2xx.
    pub fn check(reply: Reply) -> Result<Reply, Self> {
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(Self::refused(reply.status, &reply.body))
    }

    /// An error out of a status and a body.
    #[must_use]
    pub fn refused(status: StatusCode, body: &[u8]) -> Self {
        let told = serde_json::from_slice::<serde_json::Value>(body).ok();
        let told = told.and_then(|value| Some(value.get("message")?.as_str()?.to_owned()));
        let message = told.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        Self::Status {
            status,
            message: short(&message),
        }
    }

    /// A few words for counting failures by kind.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Wire(error) => error.kind().to_owned(),
            Self::Status { status, .. } => format!("http {}", status.as_u16()),
            Self::Lacks(_) | Self::Frame(_) => "bad answer".to_owned(),
            Self::Stream { code, .. } => short(code),
            Self::Exit(_) => "wrong exit".to_owned(),
            Self::Result(_) => "wrong result".to_owned(),
            Self::Content => "changed content".to_owned(),
        }
    }

    /// Whether no server was reached at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Wire(error) if error.is_unreachable())
    }

    /// The status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(status.as_u16()),
            _ => None,
        }
    }
}

/// A text of a server, on one line and of bounded length.
#[must_use]
pub fn short(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out = String::new();
    for c in clean {
        if out.len() + c.len_utf8() > MESSAGE {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_and_bounded() {
        let told = |body: &[u8]| CallError::refused(StatusCode::FORBIDDEN, body).to_string();
        assert_eq!(told(br#"{"code":403,"message":"no"}"#), "HTTP 403: no");
        assert_eq!(
            told(b"<h1>\x1b[31mno\n</h1>"),
            "HTTP 403: <h1> [31mno </h1>"
        );
        assert!(told(&vec![b'x'; 100_000]).len() < 400);
        assert!(told("é".repeat(1000).as_bytes()).ends_with('…'));
    }
}
