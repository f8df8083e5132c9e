//! What the lab agent and its clients say to each other over TCP.
//!
//! ```text
//! client → {"token":"…","op":{"exec":{…}}}⏎         one line, at most 1 MiB
//! agent  → {"ok":{…}}⏎  or  {"error":"…"}⏎
//!
//! then, for exec only, frames both ways:  kind u8 │ length u32 BE │ payload (≤ 1 MiB)
//!   agent  → client   1 stdout · 2 stderr · 3 exit (JSON, the last frame) · 6 taken (u32 BE)
//!   client → agent    4 stdin (empty: its end) · 5 signal (one byte)
//!
//! for pulse, bytes from the client until it closes
//! ```
//!
//! One connection carries one operation. A connection that breaks kills its command.
//!
//! Input has a window of [`WINDOW`] bytes: the client sends no more than that beyond what
//! "taken" frames say the command has read. So a command that reads nothing can't keep a
//! signal, or the end of the connection, from being seen.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::exec::CommandLine;

/// The port that the agent listens on, inside of the lab.
pub const AGENT_PORT: u16 = 7000;

/// The longest line and the largest frame payload, in bytes.
pub const LIMIT: u32 = 1 << 20;

/// Input that may be on its way to a command, in bytes.
pub const WINDOW: usize = 256 * 1024;

/// What the lab is told at its start (`/run/lab/config.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabConfig {
    /// Whoever connects must know it.
    pub token: String,
    /// Folder shared read-write with the machine, at the same path on both sides.
    pub share: PathBuf,
    /// Folders that must be seen at their own paths, even below a folder the lab covers.
    pub visible: Vec<PathBuf>,
    /// The words that run `modprobe`.
    pub modprobe: Vec<String>,
}

/// The first line of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The token of [`LabConfig`].
    pub token: String,
    /// What to do.
    pub op: Op,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Asks whether the agent is up and sets the lab's clock.
    Hello {
        /// Time of the machine, nanoseconds since the Unix epoch.
        unix_time_ns: u64,
    },
    /// Runs a command.
    Exec(CommandLine),
    /// Bytes follow that mean nothing but that the lab is to wake up.
    Pulse {},
    /// Powers the lab off.
    Shutdown {},
}

/// The agent's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// Done, or begun.
    Ok {
        /// Seconds since the lab kernel started.
        uptime: f64,
    },
    /// Refused, and why.
    Error(String),
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Standard output of the command.
    Stdout = 1,
    /// Standard error of the command.
    Stderr = 2,
    /// How it ended, as JSON of [`crate::exec::Exit`].
    Exit = 3,
    /// Standard input for the command; empty for its end.
    Stdin = 4,
    /// A signal's number, for the command's process group.
    Signal = 5,
    /// Bytes of input that the command has taken.
    Taken = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Stdout,
            Self::Stderr,
            Self::Exit,
            Self::Stdin,
            Self::Signal,
            Self::Taken,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Writes one frame.
///
/// # Errors
/// When the stream breaks or `payload` is larger than [`LIMIT`].
pub fn write_frame(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|n| *n <= LIMIT);
    let length = length.ok_or_else(|| invalid("a frame larger than 1 MiB"))?;
    let mut head = [0; 5];
    head[0] = kind as u8;
    head[1..].copy_from_slice(&length.to_be_bytes());
    to.write_all(&head)?;
    to.write_all(payload)?;
    to.flush()
}

/// Reads one frame; `None` at the end of the stream.
///
/// # Errors
/// When the stream breaks inside of a frame or holds something else.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head[..1]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    from.read_exact(&mut head[1..])?;
    let kind = Kind::from_byte(head[0]).ok_or_else(|| invalid("a frame of unknown kind"))?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if length > LIMIT {
        return Err(invalid("a frame larger than 1 MiB"));
    }
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload)?;
    Ok(Some((kind, payload)))
}

/// Writes one line of JSON.
///
/// # Errors
/// When the stream breaks.
pub fn write_line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one line of JSON.
///
/// # Errors
/// When the stream breaks, the line is longer than [`LIMIT`] or holds something else.
pub fn read_line<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<T> {
    let mut line = Vec::new();
    from.take(u64::from(LIMIT)).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(if line.is_empty() {
            io::ErrorKind::UnexpectedEof.into()
        } else {
            invalid("a line that is cut or longer than 1 MiB")
        });
    }
    Ok(serde_json::from_slice(&line)?)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_as_sent() {
        let command = CommandLine {
            argv: vec!["ls".into()],
            env: [("A".into(), "1".into())].into(),
            cwd: "/tmp".into(),
        };
        let request = Request {
            token: "t".into(),
            op: Op::Exec(command),
        };
        let mut line = Vec::new();
        write_line(&mut line, &request).unwrap();
        insta::assert_snapshot!(
            String::from_utf8(line.clone()).unwrap(),
            @r#"{"token":"t","op":{"exec":{"argv":["ls"],"env":{"A":"1"},"cwd":"/tmp"}}}"#
        );
        assert_eq!(read_line::<Request>(&mut &line[..]).unwrap(), request);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let endless = vec![b'x'; LIMIT as usize + 10];
        assert!(read_line::<Request>(&mut &endless[..]).is_err());
    }

    #[test]
    fn a_huge_frame_is_refused_before_it_is_read() {
        let head = [1, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            read_frame(&mut &head[..]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    proptest! {
        #[test]
        fn frames_survive(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, Kind::Stderr, &payload).unwrap();
            let read = read_frame(&mut &bytes[..]).unwrap();
            prop_assert_eq!(read, Some((Kind::Stderr, payload)));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut from = &bytes[..];
            while let Ok(Some(_)) = read_frame(&mut from) {}
        }
    }
}
