//! The agent of a guest, over the host side of its vsock: both programs use the same handshake.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_protocol::control::{
    Call, Configure, Depth, Limits, MAX_LINE_LEN, Request, Response, WarmUp,
};
use agent_protocol::opening::Opening;
use agent_protocol::{AGENT_VSOCK_PORT, PROTOCOL_VERSION};
use anyhow::{Context, Result, bail, ensure};

use super::PATIENCE;
use crate::commands::peers::plan::Session;

/// How long one connection may be silent before another is tried: a request that a restoring guest lost is never answered.
/// Longer than fifty restores at once take in an emulated host.
const SILENCE: Duration = Duration::from_secs(20);
/// Pause before another try.
const AGAIN: Duration = Duration::from_millis(1);

/// Asks who is there until it is answered; gives how many tries came to nothing.
///
/// # Errors
/// When there is no answer within [`PATIENCE`], or one of another protocol.
pub fn first_answer(socket: &Path) -> Result<u32> {
    let deadline = Instant::now() + PATIENCE;
    let mut tries = 0;
    loop {
        match exchange(socket, Call::Hello, SILENCE) {
            Ok(value) => {
                let version = value.get("protocol").and_then(serde_json::Value::as_u64);
                ensure!(
                    version == Some(u64::from(PROTOCOL_VERSION)),
                    "the agent speaks version {version:?} of the protocol, not {PROTOCOL_VERSION}"
                );
                return Ok(tries);
            }
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("no answer of the agent in {tries} tries")));
            }
            Err(_) => {
                tries += 1;
                std::thread::sleep(AGAIN);
            }
        }
    }
}

/// Gives the guest the identity of nobody's sandbox, as a template's guest has.
///
/// # Errors
/// When the agent refuses it.
pub fn configure(socket: &Path, session: &Session) -> Result<()> {
    let configure = Configure {
        sandbox_id: "peers".into(),
        template_id: session.template.clone(),
        hostname: "peers".into(),
        access_token: None,
        env: std::collections::BTreeMap::new(),
        default_user: session.user.clone(),
        default_workdir: Some(session.workdir.clone()),
        unix_time_ns: 0,
        network: None,
        limits: Limits {
            pids_max: 0,
            memory_reserve_mib: 0,
        },
        code_interpreter: session.code_interpreter,
        entropy: None,
    };
    exchange(socket, Call::Configure(Box::new(configure)), PATIENCE).map(drop)
}

/// Lets the guest work: a template's whole warm-up, or as much as a first command.
///
/// # Errors
/// When the agent can't.
pub fn warm_up(socket: &Path, depth: Depth) -> Result<()> {
    exchange(socket, Call::WarmUp(WarmUp { depth }), PATIENCE).map(drop)
}

/// One call on a connection of its own.
fn exchange(socket: &Path, call: Call, patience: Duration) -> Result<serde_json::Value> {
    let op = call.op();
    let stream = UnixStream::connect(socket).context("the vsock socket can't be reached")?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut stream = BufReader::new(stream);
    for line in [
        format!("CONNECT {AGENT_VSOCK_PORT}\n"),
        format!("{}\n", Opening::Control),
    ] {
        stream.get_mut().write_all(line.as_bytes())?;
        let answer = read_line(&mut stream, 256)?;
        ensure!(
            answer.starts_with(b"OK"),
            "{:?} was answered with {:?}",
            line.trim_end(),
            String::from_utf8_lossy(&answer)
        );
    }
    stream
        .get_mut()
        .write_all(&Request { id: 1, call }.to_line()?)?;
    let answer = read_line(&mut stream, MAX_LINE_LEN)?;
    match Response::parse(&answer)?.result {
        Ok(value) => Ok(value),
        Err(error) => bail!("the agent refused `{op}`: {}", error.message),
    }
}

fn read_line(stream: &mut BufReader<UnixStream>, most: usize) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    let most = u64::try_from(most)?;
    let read = stream.take(most).read_until(b'\n', &mut line);
    match read {
        Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("silence"),
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    ensure!(line.ends_with(b"\n"), "the connection ended");
    Ok(line)
}

/// All that comes before a snapshot: waits for the agent, configures the guest and warms it.
///
/// # Errors
/// When the agent does not answer, or refuses.
pub fn bring_up(socket: &Path, session: &Session, depth: Depth) -> Result<()> {
    first_answer(socket)?;
    configure(socket, session)?;
    warm_up(socket, depth)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A guest that answers `lines`, one connection after the other, each line to a line read.
    fn guest(path: &Path, connections: Vec<Vec<&'static str>>) {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for lines in connections {
                let (stream, _) = listener.accept().unwrap();
                let mut stream = BufReader::new(stream);
                for line in lines {
                    stream.read_line(&mut String::new()).unwrap();
                    writeln!(stream.get_mut(), "{line}").unwrap();
                }
            }
        });
    }

    const HELLO: &str =
        r#"{"id":1,"ok":{"protocol":1,"agent_version":"1","boot_id":"b","uptime_ms":1}}"#;

    #[test]
    fn a_connection_that_a_restoring_guest_cuts_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        guest(&path, vec![vec![], vec!["OK 1"], vec!["OK 2", "OK", HELLO]]);
        assert_eq!(first_answer(&path).unwrap(), 2);
    }

    #[test]
    fn another_protocol_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let old = r#"{"id":1,"ok":{"protocol":0}}"#;
        guest(&path, vec![vec!["OK 1", "OK", old]]);
        let error = first_answer(&path).unwrap_err().to_string();
        assert!(error.contains("protocol"), "{error}");
    }
}
