//! The agent client against sockets that behave and sockets that don't.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::{Agent, AgentError, DialError};

/// A vsock socket whose guest answers each line of one connection with the next of `answers`.
fn guest(answers: &'static [&'static [u8]]) -> (tempfile::TempDir, Agent) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vsock.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        for answer in answers {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            stream.write_all(answer).await.unwrap();
        }
    });
    (dir, Agent::new(&path))
}

#[tokio::test]
async fn bytes_right_behind_the_answer_belong_to_the_caller() {
    let (_dir, agent) = guest(&[b"OK 5000\n", b"OK\nSSH-2.0\r\n"]);
    let mut stream = agent.dial(22).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "SSH-2.0\r\n");
}

#[tokio::test]
async fn every_way_to_fail_has_its_name() {
    let (_dir, agent) = guest(&[b"OK 5000\n", b"ERR refused\n"]);
    assert!(matches!(agent.dial(1).await, Err(DialError::PortClosed)));
    let (_dir, agent) = guest(&[b"OK 5000\n", b"ERR busy too many\n"]);
    assert!(matches!(agent.dial(1).await, Err(DialError::Refused(_))));
    let (_dir, agent) = guest(&[]);
    assert!(matches!(
        agent.dial(1).await,
        Err(DialError::Silent(AgentError::NotListening(_)))
    ));
    let (_dir, agent) = guest(&[b"HTTP/1.1 200 OK\r\n"]);
    assert!(matches!(
        agent.dial(1).await,
        Err(DialError::Silent(AgentError::Protocol(_)))
    ));
    let (dir, agent) = guest(&[]);
    drop(dir);
    assert!(matches!(agent.dial(1).await, Err(DialError::MachineGone)));
}

#[tokio::test]
async fn hello_checks_the_version() {
    let (_dir, agent) = guest(&[
        b"OK 5000\n",
        b"OK\n",
        b"{\"id\":1,\"ok\":{\"protocol\":1,\"agent_version\":\"0.1.0\",\"boot_id\":\"b\",\"uptime_ms\":5}}\n",
    ]);
    assert!(agent.greet().await.is_ok());
    let (_dir, agent) = guest(&[
        b"OK 5000\n",
        b"OK\n",
        b"{\"id\":1,\"ok\":{\"protocol\":2,\"agent_version\":\"9\",\"boot_id\":\"b\",\"uptime_ms\":5}}\n",
    ]);
    assert!(matches!(agent.greet().await, Err(AgentError::Version(2))));
    let (_dir, agent) = guest(&[
        b"OK 5000\n",
        b"OK\n",
        b"{\"id\":1,\"error\":{\"code\":\"failed\",\"message\":\"no\"}}\n",
    ]);
    assert!(matches!(
        agent.greet().await,
        Err(AgentError::Refused { op: "hello", .. })
    ));
    let (_dir, agent) = guest(&[b"OK 5000\n", b"ERR busy too many\n"]);
    assert!(matches!(
        agent.greet().await,
        Err(AgentError::Refused { op: "CONTROL", .. })
    ));
    // Nothing listens yet: the VMM closes the connection.
    let (_dir, agent) = guest(&[]);
    assert!(matches!(
        agent.greet().await,
        Err(AgentError::NotListening(_))
    ));
}
