//! Plays a script on a bare connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fault::Step;
use crate::journal::How;

/// Longest time for which a client that reads nothing is waited for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Plays all steps, or until the client leaves.
pub async fn play(stream: &mut TcpStream, steps: &[Step]) -> How {
    for step in steps {
        let goes_on = match step {
            Step::Send(bytes) => send(stream, bytes).await,
            Step::Pause(time) => pause(stream, *time).await,
            Step::Dribble { bytes, gap } => dribble(stream, bytes, *gap).await,
            Step::Repeat { bytes, times } => repeat(stream, bytes, *times).await,
            Step::Reset => {
                // With no linger, closing sends RST. If the system refuses, the close is at least a close.
                let _ = stream.set_zero_linger();
                return How::Played;
            }
        };
        if !goes_on {
            return How::ClientLeft;
        }
    }
    let _ = stream.shutdown().await;
    How::Played
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(
        tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(bytes)).await,
        Ok(Ok(()))
    )
}

async fn dribble(stream: &mut TcpStream, bytes: &[u8], gap: Duration) -> bool {
    for byte in bytes {
        if !(send(stream, &[*byte]).await && pause(stream, gap).await) {
            return false;
        }
    }
    true
}

async fn repeat(stream: &mut TcpStream, bytes: &[u8], times: u64) -> bool {
    for _ in 0..times {
        if !send(stream, bytes).await {
            return false;
        }
    }
    true
}

/// Whether the client is still there after `time`. What it sends meanwhile is read and forgotten.
async fn pause(stream: &mut TcpStream, time: Duration) -> bool {
    let left = async {
        let mut waste = [0; 1024];
        while matches!(stream.read(&mut waste).await, Ok(1..)) {}
    };
    tokio::time::timeout(time, left).await.is_err()
}
