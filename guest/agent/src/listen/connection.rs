//! One connection from the host: reads the opening line, answers it, hands the stream on.
//!
//! The line is read byte by byte: what follows it belongs to somebody else. A peer that sends nothing keeps one of the
//! [`MAX_CONNECTIONS`] places; only the host can connect.

use std::io;
use std::sync::Arc;

use agent_protocol::opening::{MAX_OPENING_LEN, Opening, OpeningError, Reply, word};
use agent_protocol::{ENVD_PORT, HOST_CID, INTERPRETER_PORT};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::{control, tunnel};
use crate::listen::tunnel::TunnelError;
use crate::server;
use crate::services::Services;

/// Most connections at once.
pub const MAX_CONNECTIONS: usize = 4096;

/// Handles connections from the host.
#[derive(Clone, Debug)]
pub struct Connections {
    services: Services,
    places: Arc<Semaphore>,
}

impl Connections {
    /// A handler over the given services.
    #[must_use]
    pub fn new(services: Services) -> Self {
        Self {
            services,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }

    /// Serves one connection to its end. `peer` is the vsock context id it comes from.
    pub async fn serve<S>(&self, mut stream: S, peer: u32)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(_place) = Arc::clone(&self.places).try_acquire_owned() else {
            let busy = Reply::error(word::BUSY, "The agent has too many connections open.");
            let _ = refuse(&mut stream, &busy).await;
            return;
        };
        if let Err(error) = self.dispatch(stream, peer).await {
            tracing::debug!(%error, "connection ended");
        }
    }

    async fn dispatch<S>(&self, mut stream: S, peer: u32) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opening = match read_opening(&mut stream).await? {
            Ok(opening) => opening,
            Err(error) => {
                return refuse(&mut stream, &Reply::error(error.word(), &error.to_string())).await;
            }
        };
        match opening {
            Opening::Control if peer != HOST_CID => {
                let text = "Only the host may open a control connection.";
                refuse(&mut stream, &Reply::error(word::FORBIDDEN, text)).await
            }
            Opening::Control => {
                accept(&mut stream).await?;
                control::serve(stream, self.services.clone()).await
            }
            Opening::Tcp(port) => match self.in_process(port) {
                Some(router) => {
                    accept(&mut stream).await?;
                    server::serve(stream, router).await;
                    Ok(())
                }
                None => self.tunnel(stream, port).await,
            },
        }
    }

    fn in_process(&self, port: u16) -> Option<axum::Router> {
        match port {
            ENVD_PORT => Some(self.services.envd.clone()),
            INTERPRETER_PORT => self.services.interpreter_if_enabled(),
            _ => None,
        }
    }

    async fn tunnel<S>(&self, mut stream: S, port: u16) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match tunnel::connect(port, self.services.agent.guest_address()).await {
            Ok(target) => {
                accept(&mut stream).await?;
                tunnel::join(stream, target).await
            }
            Err(error) => {
                let word = match error {
                    TunnelError::Refused(_) => word::REFUSED,
                    TunnelError::Io { .. } => word::IO,
                };
                refuse(&mut stream, &Reply::error(word, &error.to_string())).await
            }
        }
    }
}

async fn accept<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream
        .write_all(format!("{}\n", Reply::Ok).as_bytes())
        .await?;
    stream.flush().await
}

async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, reply: &Reply) -> io::Result<()> {
    stream.write_all(format!("{reply}\n").as_bytes()).await?;
    stream.shutdown().await
}

/// Reads the opening line. The outer error is the stream's, the inner one the line's.
async fn read_opening<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> io::Result<Result<Opening, OpeningError>> {
    let mut line = Vec::with_capacity(MAX_OPENING_LEN);
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(Opening::parse(&line)),
            byte => line.push(byte),
        }
        if line.len() >= MAX_OPENING_LEN {
            return Ok(Err(OpeningError::TooLong));
        }
    }
}
