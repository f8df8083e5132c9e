//! Answers of one JSON value per line, read as they come.
//!
//! ```text
//!  {"type":"stdout",…}\n{"type":"keepalive"}\n{"type":"end_of_execution"}\n
//!                      ▲ a line is over here; what follows the last one is a line too
//! ```

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::http1::Opened;
use crate::check::{Stop, fail};
use crate::context::broken;
use crate::evidence::Streamed;

/// Longest line that is taken, in bytes.
pub const MAX_LINE: usize = 16 * 1024 * 1024;
/// Most lines of one answer.
const MAX_LINES: usize = 100_000;

/// A line beyond reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {MAX_LINE} bytes")]
pub struct TooLong;

/// Takes bytes as they come and gives lines as they are whole; empty ones are left out.
#[derive(Debug, Default)]
pub struct Decoder {
    held: BytesMut,
    /// Bytes of `held` that are known to have no line end.
    seen: usize,
}

impl Decoder {
    /// More bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    ///
    /// # Errors
    /// When it is too long.
    pub fn take_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        loop {
            let end = self.held[self.seen..]
                .iter()
                .position(|byte| *byte == b'\n');
            let Some(end) = end else {
                self.seen = self.held.len();
                return if self.seen > MAX_LINE {
                    Err(TooLong)
                } else {
                    Ok(None)
                };
            };
            let mut line = self.held.split_to(self.seen + end + 1);
            self.seen = 0;
            line.truncate(line.len() - 1);
            if !line.is_empty() {
                return Ok(Some(line.freeze()));
            }
        }
    }

    /// The bytes are over: what is left is the last line.
    pub fn finish(&mut self) -> Option<Bytes> {
        self.seen = 0;
        let rest = std::mem::take(&mut self.held).freeze();
        (!rest.is_empty()).then_some(rest)
    }
}

/// An answer that is being read line by line. Dropping it closes its connection.
#[derive(Debug)]
pub struct Lines {
    opened: Opened,
    decoder: Decoder,
    evidence: Streamed,
    count: usize,
    over: bool,
}

impl Lines {
    /// Begins to read what was opened.
    #[must_use]
    pub fn begin(opened: Opened, evidence: Streamed) -> Self {
        Self {
            opened,
            decoder: Decoder::default(),
            evidence,
            count: 0,
            over: false,
        }
    }

    /// The next line's value; none at the end.
    ///
    /// # Errors
    /// When the connection breaks, a line is no JSON, or nothing comes in time.
    pub async fn value(&mut self, limit: Duration) -> Result<Option<Value>, Stop> {
        let Some(line) = self.line(limit).await? else {
            return Ok(None);
        };
        self.count += 1;
        if self.count > MAX_LINES {
            return Err(fail(format!("at most {MAX_LINES} lines"), "more"));
        }
        let value = serde_json::from_slice(&line).map_err(|error| {
            let shown: String = String::from_utf8_lossy(&line).chars().take(300).collect();
            fail("JSON in each line", format!("{error} in {shown:?}"))
        })?;
        Ok(Some(value))
    }

    async fn line(&mut self, limit: Duration) -> Result<Option<Bytes>, Stop> {
        loop {
            let line = self.decoder.take_line();
            if let Some(line) = line.map_err(|error| fail("lines", error.to_string()))? {
                return Ok(Some(line));
            }
            if self.over {
                return Ok(self.decoder.finish());
            }
            let piece = self.opened.piece(limit).await;
            match piece.map_err(|error| broken(&error))? {
                Some(piece) => {
                    self.evidence.came(&piece);
                    self.decoder.push(&piece);
                }
                None => self.over = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_come_back_however_they_are_cut(
            lines in prop::collection::vec("[^\n]{1,60}", 0..12),
            cut in 1usize..40,
            ended: bool,
        ) {
            let mut wire = lines.join("\n");
            if ended {
                wire.push('\n');
            }
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in wire.as_bytes().chunks(cut) {
                decoder.push(piece);
                while let Some(line) = decoder.take_line().unwrap() {
                    got.push(line.to_vec());
                }
            }
            got.extend(decoder.finish().map(|line| line.to_vec()));
            let wanted: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            let mut total = 0;
            while let Some(line) = decoder.take_line().unwrap() {
                prop_assert!(!line.is_empty() && !line.contains(&b'\n'));
                total += line.len();
            }
            total += decoder.finish().map_or(0, |line| line.len());
            prop_assert!(total <= bytes.len());
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&vec![b'x'; MAX_LINE]);
        assert_eq!(decoder.take_line(), Ok(None));
        decoder.push(b"x");
        assert_eq!(decoder.take_line(), Err(TooLong));
    }
}
