//! The event stream of one follower of a process.
//!
//! ```text
//!   start ──▶ data* (keepalive when idle) ──┬──▶ end
//!                                           ├──▶ error deadline_exceeded     the call's Connect-Timeout-Ms passed
//!                                           └──▶ error resource_exhausted    the follower took nothing for too long
//! ```
//!
//! The starter's deadline kills the process (see [`super::running`]) and its stream then ends with an error instead of
//! an end event; another follower's deadline only ends that follower's stream. A follower that goes away changes
//! nothing for the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connectrpc::ConnectError;
use futures_util::stream::{self, Stream};

use super::exit::ExitInfo;
use super::hub::{Chunk, STALL_LIMIT, Subscription};
use super::running::{KILL_GRACE, Process, at};
use crate::errors::{Fault, Kind};
use crate::proto::process::__buffa::oneof::process_event::Event;
use crate::proto::process::__buffa::oneof::process_event::data_event::Output;
use crate::proto::process::ProcessEvent;
use crate::proto::process::process_event::{DataEvent, EndEvent, KeepAlive, StartEvent};

/// How a process is followed.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whether this follower started the process, so that its deadline is the process's.
    pub starter: bool,
    /// When the call's time is over.
    pub deadline: Option<Instant>,
    /// Idle time after which a keep-alive is sent.
    pub keepalive: Duration,
}

enum Phase {
    Start,
    Running,
    Over,
}

struct Follower {
    process: Arc<Process>,
    output: Subscription,
    terms: Terms,
    phase: Phase,
}

/// Events of `process` as `output` receives them.
pub fn events(
    process: Arc<Process>,
    output: Subscription,
    terms: Terms,
) -> impl Stream<Item = Result<ProcessEvent, ConnectError>> + Send + use<> {
    let follower = Follower {
        process,
        output,
        terms,
        phase: Phase::Start,
    };
    stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item, follower))
    })
}

impl Follower {
    async fn next(&mut self) -> Option<Result<ProcessEvent, ConnectError>> {
        match self.phase {
            Phase::Start => {
                self.phase = Phase::Running;
                Some(Ok(start(self.process.pid())))
            }
            Phase::Running => {
                // The starter's stream waits for the process to disappear, but not forever.
                let grace = if self.terms.starter {
                    KILL_GRACE
                } else {
                    Duration::ZERO
                };
                let cut = self.terms.deadline.map(|deadline| deadline + grace);
                tokio::select! {
                    biased;
                    chunk = self.output.next() => match chunk {
                        Some(chunk) => return Some(Ok(data(chunk))),
                        None => self.phase = Phase::Over,
                    },
                    () = at(cut) => {
                        self.phase = Phase::Over;
                        return Some(Err(deadline_exceeded()));
                    }
                    () = tokio::time::sleep(self.terms.keepalive) => return Some(Ok(keepalive())),
                }
                Some(self.last_word())
            }
            Phase::Over => None,
        }
    }

    fn last_word(&self) -> Result<ProcessEvent, ConnectError> {
        if self.output.lagged() {
            let message = format!(
                "The stream was cut off: no output was taken for {} s.",
                STALL_LIMIT.as_secs()
            );
            return Err(Fault::new(Kind::ResourceExhausted, message).into());
        }
        if self.terms.starter && self.process.deadline_passed() {
            return Err(deadline_exceeded());
        }
        let exit = self.process.exit();
        exit.map(end)
            .ok_or_else(|| Fault::internal("The exit of the process is unknown.").into())
    }
}

fn deadline_exceeded() -> ConnectError {
    Fault::new(
        Kind::DeadlineExceeded,
        "The deadline of the call has passed.",
    )
    .into()
}

fn event(event: impl Into<Event>) -> ProcessEvent {
    ProcessEvent {
        event: Some(event.into()),
        ..Default::default()
    }
}

fn start(pid: u32) -> ProcessEvent {
    event(StartEvent {
        pid,
        ..Default::default()
    })
}

fn data(chunk: Chunk) -> ProcessEvent {
    let output = match chunk {
        Chunk::Stdout(bytes) => Output::Stdout(bytes.into()),
        Chunk::Stderr(bytes) => Output::Stderr(bytes.into()),
        Chunk::Pty(bytes) => Output::Pty(bytes.into()),
    };
    event(DataEvent {
        output: Some(output),
        ..Default::default()
    })
}

fn keepalive() -> ProcessEvent {
    event(KeepAlive::default())
}

fn end(exit: &ExitInfo) -> ProcessEvent {
    event(EndEvent {
        exit_code: exit.exit_code,
        exited: exit.exited,
        status: exit.status.clone(),
        error: exit.error.clone(),
        ..Default::default()
    })
}
