//! One process that a client started, from `execve` to its end.
//!
//! ```text
//!   running ──exit──────────────────▶ exited ──output drained──▶ ended
//!      └─deadline─▶ killed ──exit──────┘  │                        │
//!                                         └ gone from List,        └ streams end, kept for late Connect calls
//!                                           takes no signals
//! ```
//!
//! Ordering rules: the exit is recorded before the streams end, so a client that saw the end never sees the process in
//! List; output is drained before the streams end, so nothing the process wrote is lost.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, oneshot, watch};

use super::exit::ExitInfo;
use super::hub::Hub;
use super::launch::{Ends, Launched};
use super::pty::{Pty, Size};
use super::pump::{self, Source};
use super::reaper::{Exit, Reaper};
use crate::errors::{Fault, Kind};
use crate::proto::process::ProcessConfig;

/// How long a killed process may take to disappear before its starter is told about the deadline anyway.
pub const KILL_GRACE: Duration = Duration::from_secs(2);

/// Why a process does not take input, a signal or a size.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Standard input is not enabled or already closed.
    #[error("Standard input of process {0} is not enabled or already closed.")]
    NoStdin(u32),
    /// The process has a terminal; its input is `pty`, and end-of-file is a character.
    #[error("Process {0} has a terminal: send `pty` input, and Ctrl-D for end-of-file.")]
    HasTerminal(u32),
    /// The process has no terminal.
    #[error("Process {0} has no terminal.")]
    NoTerminal(u32),
    /// The process has ended.
    #[error("Process {0} has ended.")]
    Ended(u32),
    /// The kernel refused.
    #[error("Process {pid} could not be reached: {error}.")]
    Io {
        /// The process.
        pid: u32,
        /// What the kernel said.
        error: io::Error,
    },
}

impl From<ControlError> for Fault {
    fn from(error: ControlError) -> Self {
        let kind = match error {
            ControlError::NoStdin(_)
            | ControlError::HasTerminal(_)
            | ControlError::NoTerminal(_) => Kind::FailedPrecondition,
            ControlError::Ended(_) => Kind::NotFound,
            ControlError::Io { .. } => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

#[derive(Debug)]
enum Input {
    /// `None` inside when closed.
    Pipe(Mutex<Option<pipe::Sender>>),
    Disabled,
    Terminal(Arc<Pty>),
}

/// A process that a client started.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    config: ProcessConfig,
    tag: Option<String>,
    input: Input,
    hub: Hub,
    reaper: Arc<Reaper>,
    exit: OnceLock<ExitInfo>,
    deadline_passed: AtomicBool,
}

/// What runs a process: its exit, its output.
#[derive(Debug)]
pub struct Supervision {
    exit: Exit,
    sources: Vec<Source>,
}

impl Process {
    /// Takes over a program that was launched. The process lives once [`Process::supervise`] runs.
    #[must_use]
    pub fn new(
        launched: Launched,
        reaper: Arc<Reaper>,
        config: ProcessConfig,
        tag: Option<String>,
    ) -> (Arc<Self>, Supervision) {
        let (input, sources) = match launched.ends {
            Ends::Pipes {
                stdin,
                stdout,
                stderr,
            } => (
                stdin.map_or(Input::Disabled, |pipe| Input::Pipe(Mutex::new(Some(pipe)))),
                vec![Source::Stdout(stdout), Source::Stderr(stderr)],
            ),
            Ends::Terminal(pty) => {
                let pty = Arc::new(pty);
                (Input::Terminal(Arc::clone(&pty)), vec![Source::Pty(pty)])
            }
            Ends::Null => (Input::Disabled, Vec::new()),
        };
        let process = Arc::new(Self {
            pid: launched.pid,
            config,
            tag,
            input,
            hub: Hub::new(),
            reaper,
            exit: OnceLock::new(),
            deadline_passed: AtomicBool::new(false),
        });
        (
            process,
            Supervision {
                exit: launched.exit,
                sources,
            },
        )
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// What was asked for.
    #[must_use]
    pub fn config(&self) -> &ProcessConfig {
        &self.config
    }

    /// Name for selectors.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Distributor of the output.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn exit(&self) -> Option<&ExitInfo> {
        self.exit.get()
    }

    /// Whether it was killed because its starter's deadline passed.
    #[must_use]
    pub fn deadline_passed(&self) -> bool {
        self.deadline_passed.load(Ordering::Acquire)
    }

    /// Runs the process to its end. `retire` is called when it must be gone for every client, before streams end.
    pub async fn supervise(
        self: Arc<Self>,
        supervision: Supervision,
        deadline: Option<Instant>,
        retire: impl FnOnce(&Arc<Self>),
    ) {
        let (gone, is_gone) = watch::channel(false);
        let mut drains = Vec::new();
        for source in supervision.sources {
            let (drained, is_drained) = oneshot::channel();
            drains.push(is_drained);
            let (process, is_gone) = (Arc::clone(&self), is_gone.clone());
            tokio::spawn(async move {
                pump::run(source, &process.hub, is_gone, drained).await;
            });
        }
        let mut exit = supervision.exit;
        let status = tokio::select! {
            status = &mut exit => status,
            () = at(deadline) => {
                self.deadline_passed.store(true, Ordering::Release);
                // It may just have ended by itself.
                let _ = self.signal(Signal::KILL);
                exit.await
            }
        };
        // The reaper lives as long as the agent; without it there is nobody to tell.
        let Ok(status) = status else { return };
        let _ = self.exit.set(ExitInfo::from(status));
        let _ = gone.send(true);
        for drained in drains {
            // An error means that the stream was at its end before the exit was known.
            let _ = drained.await;
        }
        retire(&self);
        self.hub.close();
    }

    /// Sends a signal to the process and the group it leads.
    ///
    /// # Errors
    /// [`ControlError::Ended`] or [`ControlError::Io`].
    pub fn signal(&self, signal: Signal) -> Result<(), ControlError> {
        self.reaper
            .signal_group(self.pid, signal)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => ControlError::Ended(self.pid()),
                _ if error.raw_os_error() == Some(libc::ESRCH) => ControlError::Ended(self.pid()),
                _ => ControlError::Io {
                    pid: self.pid(),
                    error,
                },
            })
    }

    /// Writes to standard input, all of it; waits while the pipe is full.
    ///
    /// # Errors
    /// [`ControlError`] when there is no pipe for input or nobody reads it any more.
    pub async fn write_stdin(&self, bytes: &[u8]) -> Result<(), ControlError> {
        match &self.input {
            Input::Pipe(pipe) => {
                let mut pipe = pipe.lock().await;
                let sender = pipe.as_mut().ok_or(ControlError::NoStdin(self.pid()))?;
                sender
                    .write_all(bytes)
                    .await
                    .map_err(|error| self.input_error(error))
            }
            Input::Disabled => Err(ControlError::NoStdin(self.pid())),
            Input::Terminal(_) => Err(ControlError::HasTerminal(self.pid())),
        }
    }

    /// Writes to the terminal, all of it.
    ///
    /// # Errors
    /// [`ControlError::NoTerminal`] or [`ControlError::Io`].
    pub async fn write_pty(&self, bytes: &[u8]) -> Result<(), ControlError> {
        let pty = self.terminal()?;
        pty.write_all(bytes)
            .await
            .map_err(|error| self.input_error(error))
    }

    /// Closes standard input. Closing it again is no error.
    ///
    /// # Errors
    /// [`ControlError::HasTerminal`].
    pub async fn close_stdin(&self) -> Result<(), ControlError> {
        match &self.input {
            Input::Pipe(pipe) => {
                drop(pipe.lock().await.take());
                Ok(())
            }
            Input::Disabled => Ok(()),
            Input::Terminal(_) => Err(ControlError::HasTerminal(self.pid())),
        }
    }

    /// Changes the terminal's size.
    ///
    /// # Errors
    /// [`ControlError::NoTerminal`] or [`ControlError::Io`].
    pub fn resize(&self, size: Size) -> Result<(), ControlError> {
        let pty = self.terminal()?;
        pty.resize(size).map_err(|error| ControlError::Io {
            pid: self.pid(),
            error,
        })
    }

    fn terminal(&self) -> Result<&Pty, ControlError> {
        match &self.input {
            Input::Terminal(pty) => Ok(pty),
            Input::Pipe(_) | Input::Disabled => Err(ControlError::NoTerminal(self.pid())),
        }
    }

    fn input_error(&self, error: io::Error) -> ControlError {
        if self.exit.get().is_some() {
            ControlError::Ended(self.pid())
        } else {
            ControlError::Io {
                pid: self.pid(),
                error,
            }
        }
    }
}

/// Waits for a point in time; forever when there is none.
pub(super) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
