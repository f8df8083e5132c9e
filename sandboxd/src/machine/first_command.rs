//! What a sandbox's user most likely does first, done once in a clone whose touched pages are being noted: a command through the
//! process service, as the official SDKs ask for it.
//!
//! The agent's own warm-up starts a process, too, but what lies between its socket and that start (HTTP, the process service's
//! messages, its streams) is only touched by a request. Noted, it is brought in with the rest.

use std::time::Duration;

use agent_protocol::ENVD_PORT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::agent::Agent;

/// A command that does nothing, started as the SDKs start one.
const START: &str = r#"{"process":{"cmd":"/bin/bash","args":["-l","-c","true"]}}"#;

/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 << 10;

/// The request for [`START`] (Connect protocol, a stream: one envelope of flags, length and message).
fn request() -> Vec<u8> {
    let length = u32::try_from(START.len()).unwrap_or(u32::MAX);
    let head = format!(
        "POST /process.Process/Start HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/connect+json\r\nConnect-Protocol-Version: 1\r\nContent-Length: {}\r\n\r\n",
        START.len() + 5
    );
    [
        head.as_bytes(),
        &[0],
        &length.to_be_bytes(),
        START.as_bytes(),
    ]
    .concat()
}

/// Has the guest run a command, and waits for its end for at most `patience`; false when none ran.
pub async fn run(agent: &Agent, patience: Duration) -> bool {
    let answer = timeout(patience, async {
        let mut stream = agent.dial(ENVD_PORT).await.ok()?;
        stream.write_all(&request()).await.ok()?;
        let mut answer = Vec::new();
        stream
            .take(MAX_ANSWER)
            .read_to_end(&mut answer)
            .await
            .ok()?;
        Some(answer)
    });
    let answer = answer.await.ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&answer).contains(r#""exited":true"#)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn the_request_says_how_long_it_is() {
        let request = String::from_utf8(request()).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        assert_eq!(body.as_bytes()[..5], [0, 0, 0, 0, 57]);
        assert_eq!(&body[5..], START);
    }

    #[tokio::test]
    async fn a_guest_that_runs_nothing_is_no_error() {
        for (answer, ran) in [
            (
                r#"{"event":{"end":{"exited":true,"status":"exit status 0"}}}"#,
                true,
            ),
            ("HTTP/1.1 404 Not Found\r\n\r\n", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("vsock.sock");
            let listener = UnixListener::bind(&path).unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 64]).await;
                stream.write_all(b"OK 5000\n").await.unwrap();
                let _ = stream.read(&mut [0; 64]).await;
                stream.write_all(b"OK\n").await.unwrap();
                let mut read = 0;
                while read < request().len() {
                    read += stream.read(&mut [0; 1024]).await.unwrap();
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            let patience = Duration::from_secs(10);
            assert_eq!(run(&Agent::new(&path), patience).await, ran);
        }
        let gone = Agent::new(std::path::Path::new("/nonexistent"));
        assert!(!run(&gone, Duration::from_secs(10)).await);
    }
}
