//! A body that passes through: frame by frame, cut when the sandbox ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The sandbox ended.
    #[error("the sandbox ended")]
    Cut,
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
}

/// A passing body. Whatever `guard` holds is released when the body has passed or was given up.
pub struct Passing<B, G> {
    inner: B,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _guard: G,
}

impl<B, G> Passing<B, G> {
    /// A body that ends with an error once `cut` is cancelled.
    pub fn new(inner: B, cut: CancellationToken, guard: G) -> Self {
        Self {
            inner,
            cut: Box::pin(cut.cancelled_owned()),
            _guard: guard,
        }
    }
}

impl<B, G> Body for Passing<B, G>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
    G: Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        // Looked at first: a guest's death also looks like the end of an answer that ends with its connection.
        if this.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        loop {
            let frame = std::task::ready!(Pin::new(&mut this.inner).poll_frame(context));
            // Some HTTP/2 clients end a connection that carries many empty DATA frames.
            let empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(|d| !d.has_remaining());
            if frame.as_ref().is_some_and(|f| f.as_ref().is_ok_and(empty)) {
                continue;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
