//! Talking to the agent in a guest, through the host side of its vsock.
//!
//! ```text
//!   connect vsock.sock ─► "CONNECT 1024\n" ─► "OK <host port>\n" ─► "TCP 8080\n" | "CONTROL\n" ─► "OK\n" ─► bytes
//! ```
//!
//! The first exchange is the convention of Firecracker's hybrid vsock, answered by the `microvm` process; the second
//! is the agent's own ([`agent_protocol::opening`]). What opens a control connection does not wait for one answer before
//! it sends the next line, and the VMM holds a connection back until the guest can take it. Every line from either is
//! bounded and every wait has an end: both are in the guest's hands.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_protocol::control::{
    Call, Configure, Depth, Freeze, HelloReply, Metrics, Request, Response, WarmUp,
};
use agent_protocol::opening::{MAX_REPLY_LEN, Opening, Reply, word};
use agent_protocol::{AGENT_VSOCK_PORT, PROTOCOL_VERSION};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::DialError;
use super::line::read_line;

/// Longest reply to a control request that is read.
const MAX_CONTROL_REPLY: usize = 64 << 10;

/// How long one exchange with the agent may take; long, for guests on hosts that are slow or overloaded.
const EXCHANGE: Duration = Duration::from_secs(30);

/// Why the agent could not be used.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The machine's socket cannot be reached: the process is gone.
    #[error("The machine's vsock socket cannot be reached: {0}.")]
    NoMachine(io::Error),
    /// The guest closed the connection or refused it: nothing listens on the agent's port (yet).
    #[error("Nothing in the guest answers on the agent's port: {0}.")]
    NotListening(io::Error),
    /// The agent did not answer in time.
    #[error("No answer within {0:?}.")]
    TimedOut(Duration),
    /// The agent's answer is not one of the protocol.
    #[error("The answer is not one of the protocol: {0}.")]
    Protocol(String),
    /// The agent refused an operation.
    #[error("The agent refused `{op}`: {message}")]
    Refused {
        /// The operation.
        op: &'static str,
        /// Its sentence.
        message: String,
    },
    /// The agent speaks another version of the protocol.
    #[error(
        "The agent speaks version {0} of the protocol, and this daemon version {PROTOCOL_VERSION}: rebuild the agent \
         disk."
    )]
    Version(u32),
}

/// The agent of one machine.
#[derive(Clone, Debug)]
pub struct Agent {
    socket: PathBuf,
}

impl Agent {
    /// The agent behind the vsock socket of a machine.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Opens a byte stream to a TCP port of the guest.
    pub async fn dial(&self, port: u16) -> Result<UnixStream, DialError> {
        let opened = timeout(EXCHANGE, self.open(Opening::Tcp(port))).await;
        let (stream, reply) = match opened {
            Err(_) => return Err(DialError::Silent(AgentError::TimedOut(EXCHANGE))),
            Ok(Err(AgentError::NoMachine(_))) => return Err(DialError::MachineGone),
            Ok(Err(error)) => return Err(DialError::Silent(error)),
            Ok(Ok(opened)) => opened,
        };
        match reply {
            Reply::Ok => Ok(stream),
            Reply::Err { word, .. } if word == word::REFUSED => Err(DialError::PortClosed),
            Reply::Err { word, text } => Err(DialError::Refused(format!("{word} {text}"))),
        }
    }

    /// Opens a control connection and asks the agent who it is, all in one go: the first answer of a machine.
    pub async fn greet(&self) -> Result<Session, AgentError> {
        let greeted = timeout(EXCHANGE, Session::open::<HelloReply>(self, Call::Hello)).await;
        let (session, hello) = greeted.map_err(|_| AgentError::TimedOut(EXCHANGE))??;
        if hello.protocol == PROTOCOL_VERSION {
            Ok(session)
        } else {
            Err(AgentError::Version(hello.protocol))
        }
    }

    /// Gives the agent the identity of a sandbox.
    pub async fn configure(&self, configure: Configure) -> Result<(), AgentError> {
        self.call::<serde_json::Value>(Call::Configure(Box::new(configure)))
            .await
            .map(|_| ())
    }

    /// Lets the guest do what a sandbox's first calls would wait for, for at most `patience`.
    pub async fn warm_up(&self, depth: Depth, patience: Duration) -> Result<(), AgentError> {
        let call = Call::WarmUp(WarmUp { depth });
        timeout(patience, self.exchange::<serde_json::Value>(call))
            .await
            .map_err(|_| AgentError::TimedOut(patience))?
            .map(|_| ())
    }

    /// Holds the guest's user processes still; with `sync` their file data is written back to the disk, too.
    pub async fn freeze(&self, sync: bool) -> Result<(), AgentError> {
        self.call::<serde_json::Value>(Call::Freeze(Freeze { sync }))
            .await
            .map(|_| ())
    }

    /// Lets the guest's user processes go on.
    pub async fn thaw(&self) -> Result<(), AgentError> {
        self.call::<serde_json::Value>(Call::Thaw).await.map(|_| ())
    }

    /// Resource use right now.
    pub async fn metrics(&self) -> Result<Metrics, AgentError> {
        self.call(Call::Metrics).await
    }

    async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, AgentError> {
        timeout(EXCHANGE, self.exchange(call))
            .await
            .map_err(|_| AgentError::TimedOut(EXCHANGE))?
    }

    async fn exchange<T: DeserializeOwned>(&self, call: Call) -> Result<T, AgentError> {
        let (_, answer) = Session::open(self, call).await?;
        Ok(answer)
    }

    /// Opens a connection to the agent and reads its answer to the opening line.
    async fn open(&self, opening: Opening) -> Result<(UnixStream, Reply), AgentError> {
        let mut stream = UnixStream::connect(&self.socket)
            .await
            .map_err(AgentError::NoMachine)?;
        let connect = format!("CONNECT {AGENT_VSOCK_PORT}\n");
        let line = exchange_line(&mut stream, connect.as_bytes()).await?;
        check_connected(&line)?;
        let line = exchange_line(&mut stream, format!("{opening}\n").as_bytes()).await?;
        let reply = Reply::parse(&line).map_err(|e| AgentError::Protocol(e.to_string()))?;
        Ok((stream, reply))
    }
}

/// A control connection to an agent.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<UnixStream>,
    next_id: u64,
}

impl Session {
    /// Sends both opening lines and the first request without waiting in between, and reads all three answers.
    async fn open<T: DeserializeOwned>(agent: &Agent, call: Call) -> Result<(Self, T), AgentError> {
        let mut stream = UnixStream::connect(&agent.socket)
            .await
            .map_err(AgentError::NoMachine)?;
        let op = call.op();
        let mut lines = format!("CONNECT {AGENT_VSOCK_PORT}\n{}\n", Opening::Control).into_bytes();
        lines.extend(line_of(1, call)?);
        stream
            .write_all(&lines)
            .await
            .map_err(AgentError::NotListening)?;
        let mut session = Self {
            stream: BufReader::new(stream),
            next_id: 2,
        };
        check_connected(&session.line(MAX_REPLY_LEN).await?)?;
        let line = session.line(MAX_REPLY_LEN).await?;
        let line = line.trim_ascii_end();
        match Reply::parse(line).map_err(|e| AgentError::Protocol(e.to_string()))? {
            Reply::Ok => {}
            Reply::Err { word, text } => {
                return Err(AgentError::Refused {
                    op: "CONTROL",
                    message: format!("{word} {text}"),
                });
            }
        }
        let answer = session.answer(op).await?;
        Ok((session, answer))
    }

    /// Gives the agent the identity of a sandbox.
    pub async fn configure(&mut self, configure: Configure) -> Result<(), AgentError> {
        let call = Call::Configure(Box::new(configure));
        let done = timeout(EXCHANGE, self.call::<serde_json::Value>(call)).await;
        done.map_err(|_| AgentError::TimedOut(EXCHANGE))?
            .map(|_| ())
    }

    async fn call<T: DeserializeOwned>(&mut self, call: Call) -> Result<T, AgentError> {
        let op = call.op();
        let line = line_of(self.next_id, call)?;
        self.next_id += 1;
        self.stream
            .write_all(&line)
            .await
            .map_err(AgentError::NotListening)?;
        self.answer(op).await
    }

    async fn answer<T: DeserializeOwned>(&mut self, op: &'static str) -> Result<T, AgentError> {
        let line = self.line(MAX_CONTROL_REPLY).await?;
        let response = Response::parse(&line).map_err(|e| AgentError::Protocol(e.to_string()))?;
        let value = response.result.map_err(|error| AgentError::Refused {
            op,
            message: error.message,
        })?;
        serde_json::from_value(value).map_err(|e| AgentError::Protocol(e.to_string()))
    }

    /// A line of at most `most` bytes, with its end.
    async fn line(&mut self, most: usize) -> Result<Vec<u8>, AgentError> {
        let mut line = Vec::new();
        let bound = u64::try_from(most).unwrap_or(u64::MAX);
        (&mut self.stream)
            .take(bound)
            .read_until(b'\n', &mut line)
            .await
            .map_err(AgentError::NotListening)?;
        match line.last() {
            Some(b'\n') => Ok(line),
            _ if line.len() < most => Err(AgentError::NotListening(
                io::ErrorKind::UnexpectedEof.into(),
            )),
            _ => Err(AgentError::Protocol(format!(
                "{} bytes without an end of line",
                line.len()
            ))),
        }
    }
}

fn line_of(id: u64, call: Call) -> Result<Vec<u8>, AgentError> {
    Request { id, call }
        .to_line()
        .map_err(|e| AgentError::Protocol(e.to_string()))
}

fn check_connected(line: &[u8]) -> Result<(), AgentError> {
    if line.starts_with(b"OK") {
        Ok(())
    } else {
        Err(AgentError::Protocol(
            "the vsock handshake was not answered with OK".to_owned(),
        ))
    }
}

async fn exchange_line(stream: &mut UnixStream, request: &[u8]) -> Result<Vec<u8>, AgentError> {
    stream
        .write_all(request)
        .await
        .map_err(AgentError::NotListening)?;
    read_line(stream, MAX_REPLY_LEN)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => AgentError::Protocol(error.to_string()),
            _ => AgentError::NotListening(error),
        })
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
