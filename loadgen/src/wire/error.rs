//! What can go wrong between a request and its reply.

use std::time::Duration;

/// Why there was no reply.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The name of the server is not known.
    #[error("no address for {host}: {source}")]
    Resolve {
        /// Which name.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// No connection.
    #[error("no connection to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server does not prove who it is.
    #[error("no TLS with {host}: {source}")]
    Tls {
        /// With whom.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The request cannot be put into HTTP, such as a key with a line break.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] http::Error),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// More came than is reasonable.
    #[error("the answer is longer than {0} bytes")]
    Long(usize),
}

impl WireError {
    /// One or two words for counting failures by kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "unknown host",
            Self::Connect { .. } => "no connection",
            Self::Tls { .. } => "no TLS",
            Self::Broken(_) => "connection broke",
            Self::Request(_) => "bad request",
            Self::Late(_) => "timeout",
            Self::Long(_) => "answer too long",
        }
    }

    /// Whether no server was reached at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Tls { .. }
        )
    }
}
