//! One ZeroMQ socket of ours, connected to one of a kernel's over a unix socket.
//!
//! ```text
//! connect (again until the kernel has bound it) → greetings → READY both ways → messages
//! ```
//!
//! The unix sockets lie in a directory that only the kernel's user may enter, so that no other user of the
//! sandbox can talk to the kernel; the signatures come on top.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::frame::{self, Decoder, FrameError, GREETING_LEN, Incoming};

/// The most bytes of one message: a result that is larger than this is dropped, and the client is told.
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// Between tries to connect to a socket that is not there yet.
const RETRY: Duration = Duration::from_millis(20);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer broke the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The socket failed or the kernel closed it.
    #[error("the connection to the kernel failed: {0}")]
    Io(#[from] io::Error),
    /// Something else came where READY was due.
    #[error("the kernel did not finish the handshake")]
    Handshake,
}

/// Our socket types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketType {
    /// Talks to the kernel's ROUTER (shell, control).
    Dealer,
    /// Listens to the kernel's PUB (iopub), to everything.
    Subscriber,
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    half: OwnedReadHalf,
    buffer: BytesMut,
    decoder: Decoder,
}

/// The sending half.
#[derive(Debug)]
pub struct Sender {
    half: OwnedWriteHalf,
}

/// Connects, waiting for the socket to appear. The caller bounds the time.
///
/// # Errors
/// The handshake failed.
pub async fn connect(
    path: &Path,
    socket_type: SocketType,
    identity: &str,
) -> Result<(Sender, Receiver), ConnectionError> {
    let stream = loop {
        match UnixStream::connect(path).await {
            Ok(stream) => break stream,
            Err(error) if is_not_there_yet(&error) => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(error.into()),
        }
    };
    handshake(stream, socket_type, identity).await
}

fn is_not_there_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

async fn handshake(
    mut stream: UnixStream,
    socket_type: SocketType,
    identity: &str,
) -> Result<(Sender, Receiver), ConnectionError> {
    stream.write_all(&frame::greeting()).await?;
    let mut greeting = [0; GREETING_LEN];
    stream.read_exact(&mut greeting).await?;
    frame::check_greeting(&greeting)?;
    let name = match socket_type {
        SocketType::Dealer => "DEALER",
        SocketType::Subscriber => "SUB",
    };
    stream.write_all(&frame::ready(name, identity)).await?;
    let (reader, writer) = stream.into_split();
    let mut receiver = Receiver {
        half: reader,
        buffer: BytesMut::new(),
        decoder: Decoder::new(MAX_MESSAGE),
    };
    match receiver.next().await? {
        Incoming::Command(body) if body.starts_with(b"\x05READY") => {}
        _ => return Err(ConnectionError::Handshake),
    }
    let mut sender = Sender { half: writer };
    if socket_type == SocketType::Subscriber {
        sender.send([b"\x01".as_slice()]).await?;
    }
    Ok((sender, receiver))
}

impl Sender {
    /// Sends one message.
    ///
    /// # Errors
    /// The connection is broken. After a cancelled call it is, too: part of a message may have been written.
    pub async fn send<'a>(
        &mut self,
        frames: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), ConnectionError> {
        Ok(self.half.write_all(&frame::message(frames)).await?)
    }
}

impl Receiver {
    /// The next message's frames, and whether it was cut. Commands after the handshake are skipped.
    ///
    /// # Errors
    /// The connection is broken, or its end is reached.
    pub async fn message(&mut self) -> Result<(Vec<Bytes>, bool), ConnectionError> {
        loop {
            if let Incoming::Message { frames, cut } = self.next().await? {
                return Ok((frames, cut));
            }
        }
    }

    async fn next(&mut self) -> Result<Incoming, ConnectionError> {
        loop {
            if let Some(incoming) = self.decoder.decode(&mut self.buffer)? {
                return Ok(incoming);
            }
            self.buffer.reserve(64 * 1024);
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// A peer that answers the handshake as libzmq does and then sends `bytes`.
    async fn peer(listener: UnixListener, bytes: Bytes) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = [0; GREETING_LEN];
        stream.read_exact(&mut greeting).await.unwrap();
        stream.write_all(&frame::greeting()).await.unwrap();
        stream.write_all(&frame::ready("PUB", "")).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    }

    #[tokio::test]
    async fn connects_to_a_socket_that_appears_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let server = {
            let path = path.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(60)).await;
                let listener = UnixListener::bind(path).unwrap();
                peer(listener, frame::message([b"topic".as_slice(), b"body"])).await;
            }
        };
        let client = async {
            let (_sender, mut receiver) =
                connect(&path, SocketType::Subscriber, "me").await.unwrap();
            receiver.message().await.unwrap()
        };
        let (_, (frames, cut)) = tokio::join!(server, client);
        assert_eq!(frames, [Bytes::from("topic"), Bytes::from("body")]);
        assert!(!cut);
    }

    #[tokio::test]
    async fn a_peer_that_is_no_kernel_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&[b'x'; GREETING_LEN]).await.unwrap();
            stream
        };
        let (_stream, outcome) = tokio::join!(server, connect(&path, SocketType::Dealer, "me"));
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, ConnectionError::Frame(FrameError::NotZmtp)),
            "{error}"
        );
    }
}
