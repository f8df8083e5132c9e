//! Moves a program's output from its pipe or terminal into the hub.
//!
//! ```text
//!   follow ──child gone──▶ drain ──told──▶ discard ──end of file──▶ done
//!      └────end of file────────────────────────────────────────────▶ done
//! ```
//!
//! What the child wrote before it ended is in the pipe when its exit is known: *drain* takes exactly those bytes, so
//! that a grandchild which holds the pipe open (and may write forever) cannot hold up the end event. *Discard* keeps
//! reading for such a grandchild's sake: with the read end closed its next write would kill it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::hub::{Chunk, Hub};
use super::pty::Pty;

/// Most bytes in one chunk from a pipe (envd: 32 KiB).
pub const PIPE_CHUNK: usize = 32 << 10;

/// Most bytes in one chunk from a terminal (envd: 16 KiB).
pub const PTY_CHUNK: usize = 16 << 10;

/// How long a terminal may stay silent before it counts as drained. Its bytes pass through a kernel worker, so that,
/// unlike with a pipe, they may still be on their way when the child's exit is known.
const PTY_QUIET: Duration = Duration::from_millis(50);

/// Most bytes drained from a terminal that background processes keep writing to.
const PTY_DRAIN_LIMIT: usize = 256 << 10;

/// Where output comes from.
#[derive(Debug)]
pub enum Source {
    /// Standard output.
    Stdout(pipe::Receiver),
    /// Standard error.
    Stderr(pipe::Receiver),
    /// A terminal.
    Pty(std::sync::Arc<Pty>),
}

impl Source {
    /// Waits for output; empty at end of file. Cancel-safe.
    async fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Stdout(pipe) | Self::Stderr(pipe) => read_pipe(pipe, PIPE_CHUNK).await,
            Self::Pty(pty) => pty.read_chunk(PTY_CHUNK).await,
        }
    }

    fn chunk(&self, bytes: Bytes) -> Chunk {
        match self {
            Self::Stdout(_) => Chunk::Stdout(bytes),
            Self::Stderr(_) => Chunk::Stderr(bytes),
            Self::Pty(_) => Chunk::Pty(bytes),
        }
    }

    /// Publishes what the child has left behind. Returns whether the end of file was reached.
    async fn drain(&self, hub: &Hub) -> io::Result<bool> {
        match self {
            Self::Stdout(pipe) | Self::Stderr(pipe) => {
                let mut left = usize::try_from(rustix::io::ioctl_fionread(pipe)?).unwrap_or(0);
                while left > 0 {
                    let bytes = read_pipe(pipe, left.min(PIPE_CHUNK)).await?;
                    if bytes.is_empty() {
                        return Ok(true);
                    }
                    left = left.saturating_sub(bytes.len());
                    hub.publish(self.chunk(bytes)).await;
                }
                Ok(false)
            }
            Self::Pty(pty) => {
                let mut drained = 0;
                while drained < PTY_DRAIN_LIMIT {
                    let Ok(bytes) = timeout(PTY_QUIET, pty.read_chunk(PTY_CHUNK)).await else {
                        return Ok(false);
                    };
                    let bytes = bytes?;
                    if bytes.is_empty() {
                        return Ok(true);
                    }
                    drained += bytes.len();
                    hub.publish(self.chunk(bytes)).await;
                }
                Ok(false)
            }
        }
    }
}

/// Pumps until the end of file. `gone` turns true when the child has ended; `drained` is answered when everything the
/// child wrote has been published. An error of the kernel counts as the end of file.
pub async fn run(
    source: Source,
    hub: &Hub,
    mut gone: watch::Receiver<bool>,
    drained: oneshot::Sender<()>,
) {
    let child_gone = async {
        // An error means that the sender has gone, and with it the child.
        let _ = gone.wait_for(|gone| *gone).await;
    };
    tokio::pin!(child_gone);
    loop {
        let bytes = tokio::select! {
            biased;
            () = &mut child_gone => break,
            bytes = source.read() => bytes.unwrap_or_default(),
        };
        if bytes.is_empty() {
            return;
        }
        hub.publish(source.chunk(bytes)).await;
    }
    let ended = source.drain(hub).await.unwrap_or(true);
    // Nobody waits any more when the agent is stopping.
    let _ = drained.send(());
    if !ended {
        while !source.read().await.unwrap_or_default().is_empty() {}
    }
}

async fn read_pipe(pipe: &pipe::Receiver, limit: usize) -> io::Result<Bytes> {
    loop {
        pipe.readable().await?;
        // Made only now: a silent pipe keeps no buffer.
        let mut buffer = vec![0; limit];
        match pipe.try_read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(compact(buffer));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The bytes without the unused room, when that is most of the buffer: chunks may wait in queues.
pub(super) fn compact(buffer: Vec<u8>) -> Bytes {
    if buffer.len() < buffer.capacity() / 2 {
        Bytes::copy_from_slice(&buffer)
    } else {
        Bytes::from(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;

    fn hub() -> (Arc<Hub>, super::super::hub::Subscription) {
        let hub = Arc::new(Hub::new());
        let subscription = hub.subscribe().expect("room");
        (hub, subscription)
    }

    #[tokio::test]
    async fn a_pipe_held_open_by_a_grandchild_does_not_hold_up_the_end() {
        let (hub, mut output) = hub();
        let (mut writer, reader) = pipe::pipe().expect("a pipe");
        let (gone, is_gone) = watch::channel(false);
        let (drained, is_drained) = oneshot::channel();
        let pump = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move { run(Source::Stdout(reader), &hub, is_gone, drained).await }
        });
        writer.write_all(b"last words").await.expect("written");
        gone.send(true).expect("pump listens");
        is_drained.await.expect("drained while the pipe is open");
        assert_eq!(
            output.next().await,
            Some(Chunk::Stdout(Bytes::from_static(b"last words")))
        );

        // The grandchild goes on and is not hurt; nobody hears it.
        writer
            .write_all(&vec![b'x'; 200 << 10])
            .await
            .expect("discarded");
        hub.close();
        assert_eq!(output.next().await, None);
        drop(writer);
        pump.await.expect("ends with the pipe");
    }

    #[tokio::test]
    async fn end_of_file_ends_the_pump() {
        let (hub, mut output) = hub();
        let (mut writer, reader) = pipe::pipe().expect("a pipe");
        let (_gone, is_gone) = watch::channel(false);
        let (drained, is_drained) = oneshot::channel();
        writer.write_all(b"x").await.expect("written");
        drop(writer);
        run(Source::Stderr(reader), &hub, is_gone, drained).await;
        assert!(is_drained.await.is_err(), "the waiter is released");
        assert_eq!(
            output.next().await,
            Some(Chunk::Stderr(Bytes::from_static(b"x")))
        );
    }
}
