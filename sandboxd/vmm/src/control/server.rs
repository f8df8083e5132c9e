//! The control socket: one thread, many connections, one request at a time.
//!
//! ```text
//!   poll ─┬─ listener ──► connection          ┬─ signals ──► killed
//!         ├─ connection ──► lines ──► Service ─┴─ exit cell ──► exited event to all, end
//! ```
//!
//! Every bound is fixed: connections, bytes of a line, bytes waiting to be written. A peer that does not read loses its
//! connection, never our time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use tracing::debug;

use super::{ExitReason, LineBuffer, MAX_LINE, Request, Response};
use crate::control::ErrorCode;
use crate::exit::{Exit, ExitCell};

/// Most connections at a time; one more is closed at once.
const MAX_CONNECTIONS: usize = 32;
/// Most bytes that wait for a peer to read them.
const MAX_WAITING: usize = 256 * 1024;
/// Longest path of a unix socket.
const SOCKET_PATH_MAX: usize = 107;
/// Bytes read from a connection at a time.
const CHUNK: usize = 4096;
/// How long a peer is given to take the last event.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Carries out requests. A request that ends the process leaves the reason in the exit cell.
pub trait Service {
    /// Answers one request.
    fn answer(&mut self, request: Request) -> Response;

    /// The connection that the process was started with is closed.
    fn starter_left(&mut self);
}

/// Why the socket failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The socket cannot be made.
    #[error("the control socket {path} cannot be made: {error}")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Waiting failed.
    #[error("waiting for control requests failed: {0}")]
    Poll(nix::Error),
}

/// The socket, and who is connected. Dropping it removes the socket from the file system.
#[derive(Default)]
pub struct Server {
    listener: Option<(UnixListener, PathBuf)>,
    connections: Vec<Connection>,
}

impl Server {
    /// A server without a socket, which only waits for the end.
    pub fn silent() -> Self {
        Self::default()
    }

    /// Listens at `path`. The process's umask must keep others out.
    ///
    /// # Errors
    /// When something is there already, or the folder is not.
    pub fn bind(path: &Path) -> Result<Self, ServerError> {
        let failed = |error| ServerError::Bind {
            path: path.to_owned(),
            error,
        };
        let listener = listen(path).map_err(failed)?;
        let server = Self {
            listener: Some((listener, path.to_owned())),
            connections: Vec::new(),
        };
        if let Some((listener, _)) = &server.listener {
            listener.set_nonblocking(true).map_err(failed)?;
        }
        Ok(server)
    }

    /// Takes requests from `stream`, the connection that the process was started with.
    ///
    /// # Errors
    /// When the stream cannot be used without waiting.
    pub fn begin_with(&mut self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let connection = Connection {
            starter: true,
            ..Connection::new(stream)
        };
        self.connections.push(connection);
        Ok(())
    }

    /// Serves until there is a reason to end, and returns it.
    ///
    /// # Errors
    /// When waiting fails, which it does not on a sound kernel.
    pub fn run(
        &mut self,
        service: &mut dyn Service,
        exit: &ExitCell,
        signals: &SignalFd,
    ) -> Result<Exit, ServerError> {
        loop {
            if let Some(end) = exit.get() {
                return Ok(end);
            }
            let ready = self.wait(exit, signals)?;
            if ready.signal {
                while let Ok(Some(signal)) = signals.read_signal() {
                    let words = format!("the process received signal {}", signal.ssi_signo);
                    exit.set(ExitReason::Killed, &words);
                }
            }
            for index in ready.connections {
                self.connections[index].serve(service);
            }
            if self.connections.iter().any(|c| c.starter && !c.open()) {
                service.starter_left();
            }
            self.connections.retain(Connection::open);
            if ready.listener {
                self.accept();
            }
        }
    }

    /// Sends the last event to everyone.
    pub fn announce(&mut self, end: &Exit) {
        let line = end.event().to_line();
        for connection in &mut self.connections {
            connection.waiting.extend_from_slice(line.as_bytes());
            let stream = &connection.stream;
            let prepared = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_write_timeout(Some(LAST_WORDS)));
            if prepared.is_ok() {
                let _ = connection.stream.write_all(&connection.waiting);
            }
        }
    }

    fn wait(&self, exit: &ExitCell, signals: &SignalFd) -> Result<Ready, ServerError> {
        let mut fds = vec![
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(exit.event().as_fd(), PollFlags::POLLIN),
        ];
        for connection in &self.connections {
            fds.push(PollFd::new(
                connection.stream.as_fd(),
                connection.interest(),
            ));
        }
        if let Some((listener, _)) = &self.listener {
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(ServerError::Poll(error)),
        }
        let hit = |fd: &PollFd| fd.any().unwrap_or(true);
        let last = 2 + self.connections.len();
        Ok(Ready {
            signal: hit(&fds[0]),
            connections: (0..self.connections.len())
                .filter(|at| hit(&fds[2 + at]))
                .collect(),
            listener: fds.get(last).is_some_and(hit),
        })
    }

    fn accept(&mut self) {
        let Some((listener, _)) = &self.listener else {
            return;
        };
        while let Ok((stream, _)) = listener.accept() {
            if self.connections.len() < MAX_CONNECTIONS && stream.set_nonblocking(true).is_ok() {
                self.connections.push(Connection::new(stream));
            }
        }
    }
}

/// Listens at `path`, which appears only when a connection succeeds: whoever waits for the file need not try twice.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    if temporary.len() > SOCKET_PATH_MAX {
        return UnixListener::bind(path);
    }
    let _ = std::fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary)?;
    linked.map(|()| listener)
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.listener {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What poll found.
struct Ready {
    signal: bool,
    listener: bool,
    connections: Vec<usize>,
}

struct Connection {
    stream: UnixStream,
    lines: LineBuffer,
    waiting: Vec<u8>,
    /// Nothing more is read; what waits is still written.
    finished: bool,
    broken: bool,
    /// Whether the process was started with it.
    starter: bool,
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        let lines = LineBuffer::new(MAX_LINE);
        Self {
            stream,
            lines,
            waiting: Vec::new(),
            finished: false,
            broken: false,
            starter: false,
        }
    }

    /// While answers wait to be written nothing more is read: a peer gets no more work done than it takes answers for.
    fn interest(&self) -> PollFlags {
        if self.waiting.is_empty() {
            PollFlags::POLLIN
        } else {
            PollFlags::POLLOUT
        }
    }

    fn open(&self) -> bool {
        let done = self.finished && self.waiting.is_empty();
        !(self.broken || done)
    }

    fn serve(&mut self, service: &mut dyn Service) {
        if self.waiting.is_empty() && !self.finished {
            self.read(service);
        }
        self.write();
    }

    fn read(&mut self, service: &mut dyn Service) {
        let mut chunk = [0u8; CHUNK];
        let len = match self.stream.read(&mut chunk) {
            Ok(0) => return self.finished = true,
            Ok(len) => len,
            Err(error) if is_temporary(&error) => return,
            Err(_) => return self.broken = true,
        };
        let waiting = &mut self.waiting;
        let pushed = self.lines.push(&chunk[..len], |line| {
            let answer = match Request::parse(line) {
                Ok(request) => service.answer(request),
                Err(refusal) => refusal,
            };
            waiting.extend_from_slice(answer.to_line().as_bytes());
        });
        if let Err(error) = pushed {
            debug!(%error, "closing a control connection");
            let refusal = Response::error(None, ErrorCode::BadRequest, error.to_string());
            self.waiting.extend_from_slice(refusal.to_line().as_bytes());
            self.finished = true;
        }
    }

    fn write(&mut self) {
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(len) => drop(self.waiting.drain(..len)),
                Err(error) if is_temporary(&error) => break,
                Err(_) => return self.broken = true,
            }
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        } else if self.waiting.len() > MAX_WAITING {
            self.broken = true;
        }
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
