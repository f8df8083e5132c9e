//! The collector: answers questions with readings of its machine, one line of JSON each way per connection.
//!
//! A question can only count and sum; what it names are a process, a daemon and folders. Still it tells about the machine, so it
//! listens where it is told and nowhere else.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::reading::{Question, here};

/// Longest question.
const MAX_QUESTION: u64 = 64 << 10;
/// How long an asker may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: SocketAddr, ready: impl FnOnce(SocketAddr)) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    ready(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        // One after the other: readings at the same time would be in each other's way.
        if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, ask(stream)).await {
            eprintln!("loadgen: a question came to nothing: {error}");
        }
    }
}

async fn ask(mut stream: TcpStream) -> std::io::Result<()> {
    let mut line = String::new();
    let (from, mut to) = stream.split();
    BufReader::new(from.take(MAX_QUESTION))
        .read_line(&mut line)
        .await?;
    let question: Question = serde_json::from_str(&line)?;
    let reading = tokio::task::spawn_blocking(move || here(&question)).await?;
    let told = serde_json::to_string(&reading)? + "\n";
    to.write_all(told.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::super::reach::{Probe, Way};
    use super::*;

    #[tokio::test]
    async fn a_collector_tells_what_is_here_and_survives_nonsense() {
        let (told, address) = tokio::sync::oneshot::channel();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = tokio::spawn(serve(listen, |at| told.send(at).unwrap()));
        let address = address.await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"{\"process\": 7}\n").await.unwrap();
        let mut nothing = String::new();
        stream.read_to_string(&mut nothing).await.unwrap();
        assert_eq!(nothing, "");
        let probe = Probe {
            question: Question {
                process: "no such process".to_owned(),
                daemon: "none".to_owned(),
                guest_bytes: None,
                folders: Vec::new(),
            },
            way: Way::Remote(address.to_string()),
        };
        let reading = probe.read(Some(1)).await.unwrap();
        assert_eq!((reading.counts["processes"], reading.processes), (0, None));
        server.abort();
    }
}
