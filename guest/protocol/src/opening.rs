//! The first line of a connection to the agent, and the agent's answer to it.
//!
//! ```text
//!   opening = ( "TCP " port / "CONTROL" ) LF          at most 64 bytes with the LF
//!   reply   = "OK" LF / "ERR " word [ " " text ] LF   at most 256 bytes with the LF
//! ```
//!
//! Both sides read byte by byte or peek, never beyond the LF: what follows it belongs to the tunnelled protocol.
//! [`scan_line`] is the pure part of that reading.

use std::fmt;

/// Longest opening line in bytes, LF included.
pub const MAX_OPENING_LEN: usize = 64;

/// Longest reply line in bytes, LF included.
pub const MAX_REPLY_LEN: usize = 256;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Connect this stream to a TCP port of the guest (1 to 65535).
    Tcp(u16),
    /// Speak the control protocol ([`crate::control`]).
    Control,
}

/// Why an opening line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// The opening line is longer than 64 bytes.
    #[error("The opening line is longer than {MAX_OPENING_LEN} bytes.")]
    TooLong,
    /// The opening line is neither `TCP <port>` nor `CONTROL`.
    #[error("The opening line is neither `TCP <port>` nor `CONTROL`.")]
    Unknown,
    /// The port of a `TCP` opening is not a decimal number from 1 to 65535.
    #[error("The port of a `TCP` opening is not a decimal number from 1 to 65535.")]
    BadPort,
}

impl OpeningError {
    /// The word that stands for this error in an `ERR` reply.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Unknown => "unknown",
            Self::BadPort => "bad_port",
        }
    }
}

impl Opening {
    /// Parses one line without its LF.
    ///
    /// # Errors
    /// [`OpeningError`] for anything that is not exactly one of the two forms; a port has no sign and no leading zero.
    pub fn parse(line: &[u8]) -> Result<Self, OpeningError> {
        if line.len() >= MAX_OPENING_LEN {
            return Err(OpeningError::TooLong);
        }
        if line == b"CONTROL" {
            return Ok(Self::Control);
        }
        let digits = line.strip_prefix(b"TCP ").ok_or(OpeningError::Unknown)?;
        let canonical =
            digits.first().is_some_and(|d| *d != b'0') && digits.iter().all(u8::is_ascii_digit);
        if !canonical {
            return Err(OpeningError::BadPort);
        }
        let text = std::str::from_utf8(digits).map_err(|_| OpeningError::BadPort)?;
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| OpeningError::BadPort)
    }
}

/// Writes the line without its LF.
impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "TCP {port}"),
            Self::Control => f.write_str("CONTROL"),
        }
    }
}

/// Why the agent could not connect a stream to a guest port: the words of an `ERR` reply.
pub mod word {
    /// Nothing listens on the port.
    pub const REFUSED: &str = "refused";
    /// The peer may not do this (a control connection from a CID other than the host's).
    pub const FORBIDDEN: &str = "forbidden";
    /// The agent has too many connections open.
    pub const BUSY: &str = "busy";
    /// Another error of the guest's kernel; the text names it.
    pub const IO: &str = "io";
}

/// The agent's answer to an opening line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The connection is open; raw bytes or control lines follow.
    Ok,
    /// The connection is refused and closed.
    Err {
        /// One lower-case word for programs, such as [`word::REFUSED`].
        word: String,
        /// A sentence for people; may be empty.
        text: String,
    },
}

/// Why a reply line is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The reply line is longer than 256 bytes.
    #[error("The reply line is longer than {MAX_REPLY_LEN} bytes.")]
    TooLong,
    /// The reply line is neither `OK` nor `ERR <word> <text>`.
    #[error("The reply line is neither `OK` nor `ERR <word> <text>`.")]
    Malformed,
}

impl Reply {
    /// An error reply; the text is cut so that the line stays within [`MAX_REPLY_LEN`], and control characters in it
    /// become spaces so that it stays one line.
    #[must_use]
    pub fn error(word: &str, text: &str) -> Self {
        let word: String = word
            .chars()
            .filter(|c| c.is_ascii_lowercase() || *c == '_')
            .take(32)
            .collect();
        let budget = MAX_REPLY_LEN - "ERR  \n".len() - word.len();
        let mut clean = String::new();
        for c in text
            .trim()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
        {
            if clean.len() + c.len_utf8() > budget {
                break;
            }
            clean.push(c);
        }
        let word = if word.is_empty() {
            word::IO.to_owned()
        } else {
            word
        };
        Self::Err {
            word,
            text: clean.trim().to_owned(),
        }
    }

    /// Parses one line without its LF.
    ///
    /// # Errors
    /// [`ReplyError`] when the line is too long or of neither form.
    pub fn parse(line: &[u8]) -> Result<Self, ReplyError> {
        if line.len() >= MAX_REPLY_LEN {
            return Err(ReplyError::TooLong);
        }
        if line == b"OK" {
            return Ok(Self::Ok);
        }
        let rest = line.strip_prefix(b"ERR ").ok_or(ReplyError::Malformed)?;
        let rest = std::str::from_utf8(rest).map_err(|_| ReplyError::Malformed)?;
        let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let well_formed =
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !well_formed {
            return Err(ReplyError::Malformed);
        }
        Ok(Self::Err {
            word: word.to_owned(),
            text: text.to_owned(),
        })
    }
}

/// Writes the line without its LF.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("OK"),
            Self::Err { word, text } if text.is_empty() => write!(f, "ERR {word}"),
            Self::Err { word, text } => write!(f, "ERR {word} {text}"),
        }
    }
}

/// What a buffer of received bytes holds of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// A whole line: its length without the LF. The LF is at that index.
    Complete(usize),
    /// No LF yet and still room for one.
    Incomplete,
    /// No LF within the limit.
    TooLong,
}

/// Looks for the end of the first line in `bytes`, which may be at most `limit` bytes long with its LF.
#[must_use]
pub fn scan_line(bytes: &[u8], limit: usize) -> Scan {
    let window = &bytes[..bytes.len().min(limit)];
    match window.iter().position(|b| *b == b'\n') {
        Some(length) => Scan::Complete(length),
        None if bytes.len() >= limit => Scan::TooLong,
        None => Scan::Incomplete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_two_forms() {
        assert_eq!(Opening::parse(b"TCP 49983"), Ok(Opening::Tcp(49983)));
        assert_eq!(Opening::parse(b"TCP 65535"), Ok(Opening::Tcp(65535)));
        assert_eq!(Opening::parse(b"CONTROL"), Ok(Opening::Control));
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            "TCP 0",
            "TCP 65536",
            "TCP +1",
            "TCP 01",
            "TCP ",
            "TCP 1 ",
            "TCP -1",
        ] {
            assert_eq!(
                Opening::parse(bad.as_bytes()),
                Err(OpeningError::BadPort),
                "{bad:?}"
            );
        }
        for bad in ["", "TCP", "tcp 1", "CONTROL ", "control", "GET / HTTP/1.1"] {
            assert_eq!(
                Opening::parse(bad.as_bytes()),
                Err(OpeningError::Unknown),
                "{bad:?}"
            );
        }
        assert_eq!(
            Opening::parse(&[b'A'; MAX_OPENING_LEN]),
            Err(OpeningError::TooLong)
        );
    }

    #[test]
    fn reply_lines_look_as_documented() {
        insta::assert_snapshot!(Reply::Ok, @"OK");
        insta::assert_snapshot!(Reply::error(word::REFUSED, ""), @"ERR refused");
        insta::assert_snapshot!(
            Reply::error(word::IO, "connect:\nno route\tto host"),
            @"ERR io connect: no route to host"
        );
    }

    #[test]
    fn scan_stops_at_the_limit() {
        assert_eq!(scan_line(b"", 4), Scan::Incomplete);
        assert_eq!(scan_line(b"abc", 4), Scan::Incomplete);
        assert_eq!(scan_line(b"abc\nrest", 4), Scan::Complete(3));
        assert_eq!(scan_line(b"abcd\n", 4), Scan::TooLong);
    }

    proptest! {
        #[test]
        fn opening_round_trips(port in 1u16..) {
            let opening = Opening::Tcp(port);
            prop_assert_eq!(Opening::parse(opening.to_string().as_bytes()), Ok(opening));
        }

        #[test]
        fn only_canonical_openings_parse(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(opening) = Opening::parse(&line) {
                prop_assert_eq!(opening.to_string().into_bytes(), line);
            }
        }

        #[test]
        fn reply_round_trips_and_fits(word in "[a-z_]{1,40}", text in ".{0,400}") {
            let reply = Reply::error(&word, &text);
            let line = reply.to_string();
            prop_assert!(line.len() < MAX_REPLY_LEN);
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(Reply::parse(line.as_bytes()), Ok(reply));
        }

        #[test]
        fn reply_parser_never_panics(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Reply::parse(&line);
        }

        #[test]
        fn scan_agrees_with_a_plain_search(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), limit in 1usize..80,
        ) {
            let expected = match bytes.iter().position(|b| *b == b'\n') {
                Some(at) if at < limit => Scan::Complete(at),
                _ if bytes.len() >= limit => Scan::TooLong,
                _ => Scan::Incomplete,
            };
            prop_assert_eq!(scan_line(&bytes, limit), expected);
        }
    }
}
