//! A small blocking client of the control protocol, for tests, tools and the `microvm` program itself.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{ErrorBody, Event, MAX_LINE, Op, Request, Response, ServerLine};

/// One connection. Events that arrive before an answer are kept for [`Client::next_event`].
pub struct Client {
    stream: BufReader<UnixStream>,
    next_id: u64,
    events: Vec<Event>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket failed or timed out.
    #[error("the control socket failed: {0}")]
    Io(#[from] io::Error),
    /// The process closed the connection.
    #[error("the microvm process closed the control connection")]
    Closed,
    /// The process sent something else than the protocol says.
    #[error("the microvm process sent a line that is not of this protocol: {0}")]
    Protocol(#[from] serde_json::Error),
    /// The process sent an answer to another request.
    #[error("an answer came for request {got:?} while {want} was waited for")]
    WrongId {
        /// Id of the request.
        want: u64,
        /// Id in the answer.
        got: Option<u64>,
    },
    /// The process refused or could not do it.
    #[error("{0}")]
    Refused(ErrorBody),
}

impl Client {
    /// Connects to the control socket at `path`; every read and write is given `timeout`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream: BufReader::new(stream),
            next_id: 1,
            events: Vec::new(),
        })
    }

    /// Sends one request and waits for its answer, read as `T`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call<T: DeserializeOwned>(&mut self, op: Op) -> Result<T, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        self.stream
            .get_mut()
            .write_all(Request { id, op }.to_line().as_bytes())?;
        loop {
            match self.read_line()? {
                ServerLine::Event(event) => self.events.push(event),
                ServerLine::Response(Response {
                    error: Some(error), ..
                }) => {
                    return Err(ClientError::Refused(error));
                }
                ServerLine::Response(answer) if answer.id == Some(id) => {
                    return Ok(serde_json::from_value(answer.ok.unwrap_or_default())?);
                }
                ServerLine::Response(answer) => {
                    return Err(ClientError::WrongId {
                        want: id,
                        got: answer.id,
                    });
                }
            }
        }
    }

    /// Sends one request whose answer holds nothing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn order(&mut self, op: Op) -> Result<(), ClientError> {
        self.call::<serde_json::Value>(op).map(|_| ())
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// When none comes in time or the connection ends.
    pub fn next_event(&mut self) -> Result<Event, ClientError> {
        while self.events.is_empty() {
            if let ServerLine::Event(event) = self.read_line()? {
                self.events.push(event);
            }
        }
        Ok(self.events.remove(0))
    }

    fn read_line(&mut self) -> Result<ServerLine, ClientError> {
        let mut line = Vec::new();
        let bound = MAX_LINE as u64;
        (&mut self.stream)
            .take(bound)
            .read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(ClientError::Closed);
        }
        Ok(ServerLine::parse(&line)?)
    }
}
