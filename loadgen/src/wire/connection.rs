//! One connection: requests one after the other.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};

use super::WireError;
use super::address::Origin;
use super::stream;

/// A body that is there in full.
pub type Body = Full<Bytes>;

/// A connection that is good for a request.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Body>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// See [`stream::connect`].
    pub async fn open(origin: &Origin) -> Result<Self, WireError> {
        let io = stream::connect(origin).await?;
        let (sender, connection) = http1::handshake(io).await?;
        // Ends when the sender and the body of its last reply are dropped, or the server closes.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// Whether the server has closed it, as far as is known.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends; the reply's body is still coming.
    ///
    /// # Errors
    /// When the connection breaks. `is_canceled()` of hyper's error tells that nothing was sent.
    pub async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}
