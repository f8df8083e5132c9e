//! A request's body whose unread rest is taken in, so that its connection can serve the next request.
//!
//! ```text
//!   read to its end ──────────────────────────────────────────► connection goes on
//!   dropped before (refused, answered early) ──► rest read and thrown away
//!                                                 ├─ ends within the limits ──► connection goes on
//!                                                 └─ does not ────────────────► connection is closed
//! ```
//!
//! An HTTP/1.1 server that leaves a body unread has to close the connection (RFC 9112, 9.3), and a client that keeps it
//! for its next request learns that only from the failure. HTTP/2 resets the one stream instead and needs none of this.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// The largest rest that is read and thrown away, in bytes.
const LIMIT: u64 = 16 << 20;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request's body; see the module.
pub struct Rest {
    /// Empty only while dropped.
    inner: Option<Incoming>,
    guarded: bool,
}

impl Rest {
    /// A body whose rest is taken in.
    pub fn new(inner: Incoming) -> Self {
        Self {
            inner: Some(inner),
            guarded: true,
        }
    }

    /// A body whose rest is left to HTTP/2.
    pub fn unguarded(inner: Incoming) -> Self {
        Self {
            inner: Some(inner),
            guarded: false,
        }
    }
}

/// Tells the client that its connection ends with this answer, if what it still sends is more than will be read.
pub fn announce<B>(declared: &SizeHint, version: Version, response: &mut Response<B>) {
    let early = response.status().is_client_error() || response.status().is_server_error();
    if version == Version::HTTP_11 && early && declared.lower() > LIMIT {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
}

impl Body for Rest {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let worth_reading =
            |inner: &Incoming| !inner.is_end_stream() && inner.size_hint().lower() <= LIMIT;
        let left = self
            .inner
            .take()
            .filter(|inner| self.guarded && worth_reading(inner));
        // Without a runtime the process is ending, and all connections with it.
        if let (Some(inner), Ok(runtime)) = (left, tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(PATIENCE, discard(inner)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut room = LIMIT;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len) as u64;
        match room.checked_sub(size) {
            Some(less) => room = less,
            None => return,
        }
    }
}
