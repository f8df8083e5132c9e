//! Client of the control protocol of a `microvm` process ([`vmm::control`]): JSON lines over a Unix stream socket.
//!
//! ```text
//!   → {"v":1,"id":7,"op":"boot","args":{…}}
//!   ← {"id":7,"ok":{…}}   or   {"id":7,"error":{"code":"bad_config","message":"…"}}
//!   ← {"event":"exited","reason":"guest_panic","detail":"…"}          at any time, to every connection
//! ```
//!
//! Requests are serial per connection. The process on the other side is not trusted more than the guest it runs: lines
//! are bounded, and an answer that does not fit ends the connection.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use vmm::config::MachineConfig;
use vmm::control::{
    ErrorBody, Event, Hello, MAX_LINE, Op, Ready, Recorded, Request, RestoreArgs, Restored,
    RollbackArgs, ServerLine, SnapshotArgs, Snapshotted, StageArgs,
};
use vmm::machine::Shape;

/// Why a control operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket could not be used.
    #[error("The control socket failed: {0}.")]
    Io(#[from] io::Error),
    /// The process closed the connection before it answered.
    #[error("The process closed the control connection before it answered `{0}`.")]
    Closed(&'static str),
    /// The process refused.
    #[error("The process refused `{op}` ({:?}): {}", error.code, error.message)]
    Refused {
        /// The operation.
        op: &'static str,
        /// Its words.
        error: ErrorBody,
    },
    /// The answer is not one of the protocol.
    #[error("The answer to `{op}` is not one of the protocol: {error}.")]
    Protocol {
        /// The operation.
        op: &'static str,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// The answer is longer than a line may be.
    #[error("The answer to `{0}` is longer than {MAX_LINE} bytes.")]
    TooLong(&'static str),
}

/// One connection to a process.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<UnixStream>,
    next_id: u64,
    exited: Option<Event>,
}

impl Control {
    /// Connects to the socket of a process.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self::over(UnixStream::connect(path).await?))
    }

    /// Over a connection that there is.
    pub fn over(stream: UnixStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            next_id: 1,
            exited: None,
        }
    }

    /// Asks who is there.
    pub async fn hello(&mut self) -> Result<Hello, ControlError> {
        self.call(Op::Hello).await
    }

    /// Boots the guest.
    pub async fn boot(&mut self, config: MachineConfig) -> Result<(), ControlError> {
        self.call::<serde_json::Value>(Op::Boot(Box::new(config)))
            .await
            .map(|_| ())
    }

    /// Makes everything that needs no contents.
    pub async fn prepare(&mut self, shape: Shape) -> Result<Ready, ControlError> {
        self.call(Op::Prepare(Box::new(shape))).await
    }

    /// Puts the memory of a snapshot in place, for a restore to come.
    pub async fn stage(&mut self, dir: PathBuf) -> Result<Ready, ControlError> {
        self.call(Op::Stage(Box::new(StageArgs { dir }))).await
    }

    /// Stops all virtual processors.
    pub async fn pause(&mut self) -> Result<(), ControlError> {
        self.call::<serde_json::Value>(Op::Pause).await.map(|_| ())
    }

    /// Lets all virtual processors go on.
    pub async fn resume(&mut self) -> Result<(), ControlError> {
        self.call::<serde_json::Value>(Op::Resume).await.map(|_| ())
    }

    /// Writes a snapshot of a paused machine.
    pub async fn snapshot(&mut self, args: SnapshotArgs) -> Result<Snapshotted, ControlError> {
        self.call(Op::Snapshot(Box::new(args))).await
    }

    /// Makes the machine from a snapshot and lets it run.
    pub async fn restore(&mut self, args: RestoreArgs) -> Result<Restored, ControlError> {
        self.call(Op::Restore(Box::new(args))).await
    }

    /// Makes the machine what it was in a snapshot of it, and lets it run.
    pub async fn rollback(&mut self, dir: &Path) -> Result<Restored, ControlError> {
        let dir = dir.to_owned();
        self.call(Op::Rollback(Box::new(RollbackArgs { dir, resume: true })))
            .await
    }

    /// Notes which pages a machine restored for it has touched, beside its snapshot.
    pub async fn record(&mut self) -> Result<Recorded, ControlError> {
        self.call(Op::Record).await
    }

    /// Waits for the process to say why it ends; `None` when the connection closes without a word.
    pub async fn exit_event(mut self) -> Option<Event> {
        while self.exited.is_none() {
            match self.line("event").await {
                Ok(ServerLine::Event(event)) => self.exited = Some(event),
                Ok(ServerLine::Response(_)) => {}
                Err(_) => break,
            }
        }
        self.exited
    }

    async fn call<T: DeserializeOwned>(&mut self, op: Op) -> Result<T, ControlError> {
        let name = op.name();
        let id = self.next_id;
        self.next_id += 1;
        let request = Request { id, op }.to_line();
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            let response = match self.line(name).await? {
                ServerLine::Event(event) => {
                    self.exited = Some(event);
                    continue;
                }
                ServerLine::Response(response) => response,
            };
            if let Some(error) = response.error {
                return Err(ControlError::Refused { op: name, error });
            }
            if response.id == Some(id) {
                return serde_json::from_value(response.ok.unwrap_or_default())
                    .map_err(|error| ControlError::Protocol { op: name, error });
            }
        }
    }

    async fn line(&mut self, op: &'static str) -> Result<ServerLine, ControlError> {
        let mut bytes = Vec::new();
        let bound = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        (&mut self.stream)
            .take(bound)
            .read_until(b'\n', &mut bytes)
            .await?;
        match bytes.last() {
            Some(b'\n') => {
                ServerLine::parse(&bytes).map_err(|error| ControlError::Protocol { op, error })
            }
            _ if bytes.len() >= MAX_LINE => Err(ControlError::TooLong(op)),
            _ => Err(ControlError::Closed(op)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixListener;
    use vmm::control::{Event, ExitReason, State};

    use super::{Control, ControlError};

    async fn answering(
        script: &'static [&'static str],
    ) -> (tempfile::TempDir, Control, tokio::task::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut request = String::new();
            stream.read_line(&mut request).await.unwrap();
            for line in script {
                stream.write_all(line.as_bytes()).await.unwrap();
                stream.write_all(b"\n").await.unwrap();
            }
            request
        });
        let control = Control::connect(&path).await.unwrap();
        (dir, control, server)
    }

    #[tokio::test]
    async fn events_between_request_and_answer_are_kept() {
        let (_dir, mut control, server) = answering(&[
            r#"{"event":"exited","reason":"guest_panic","detail":"oops"}"#,
            r#"{"id":1,"ok":{"version":"0.1.0","protocol":1,"pid":7,"state":"idle","id":"iabc"}}"#,
        ])
        .await;
        let hello = control.hello().await.unwrap();
        assert_eq!((hello.state, hello.id.as_str()), (State::Idle, "iabc"));
        insta::assert_snapshot!(server.await.unwrap().trim(), @r#"{"v":1,"id":1,"op":"hello"}"#);
        let exited = Event::Exited {
            reason: ExitReason::GuestPanic,
            detail: "oops".into(),
        };
        assert_eq!(control.exit_event().await, Some(exited));
    }

    #[tokio::test]
    async fn refusals_and_hang_ups_are_told_apart() {
        let (_dir, mut control, _) =
            answering(&[r#"{"id":1,"error":{"code":"bad_config","message":"no disks"}}"#]).await;
        let error = control.hello().await.unwrap_err();
        insta::assert_snapshot!(error, @"The process refused `hello` (BadConfig): no disks");
        let (_dir, mut control, _) = answering(&[]).await;
        let error = control.hello().await.unwrap_err();
        assert!(matches!(error, ControlError::Closed("hello")));
        let (_dir, mut control, _) = answering(&["not json"]).await;
        let error = control.hello().await.unwrap_err();
        assert!(matches!(error, ControlError::Protocol { .. }));
    }
}
