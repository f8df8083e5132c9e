//! The frames of a WebSocket, as far as a check needs them: whole messages, up to 64 KiB.
//!
//! ```text
//!  0         1          2               4 (or 10)
//!  ├ opcode  ┼ length   ┼ length if 126 ┼ mask, from clients ┼ payload …
//!    0x80 last frame      (8 bytes if 127)
//!    0x1 text  0x8 close  0x9 ping  0xa pong
//! ```

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::check::{Stop, Verdict, fail};

/// A text message.
pub const TEXT: u8 = 0x1;
/// Key of a handshake, and the answer that belongs to it (RFC 6455, 1.3).
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Longest payload.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// What a client's payload is mixed with; any four bytes do.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub opcode: u8,
    /// Payload.
    pub payload: Bytes,
}

/// What is wrong with a server's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Reserved bits that nobody agreed on.
    #[error("a frame with reserved bits")]
    Reserved,
    /// Servers do not mask.
    #[error("a masked frame of a server")]
    Masked,
    /// Beyond reason.
    #[error("a payload of more than {MAX_PAYLOAD} bytes")]
    Long,
}

/// A client's frame. Payloads beyond 64 KiB are cut.
#[must_use]
pub fn encoded(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(usize::from(u16::MAX))];
    let mut out = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(short @ ..126) => out.push(0x80 | short),
        _ => {
            out.push(0x80 | 126);
            out.extend_from_slice(
                &u16::try_from(payload.len())
                    .unwrap_or(u16::MAX)
                    .to_be_bytes(),
            );
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    out
}

/// Takes bytes as they come and gives a server's frames as they are whole.
#[derive(Debug, Default)]
pub struct Decoder {
    held: BytesMut,
}

impl Decoder {
    /// More bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// When the bytes are no frame of a server.
    pub fn take_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let [first, second, ..] = self.held[..] else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        if second & 0x80 != 0 {
            return Err(FrameError::Masked);
        }
        let (head, length) = match second {
            126 => match self.held[2..] {
                [a, b, ..] => (4, u64::from(u16::from_be_bytes([a, b]))),
                _ => return Ok(None),
            },
            127 => match self.held[2..].first_chunk::<8>() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            short => (2, u64::from(short)),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(FrameError::Long);
        }
        if self.held.len() < head + length {
            return Ok(None);
        }
        self.held.advance(head);
        Ok(Some(Frame {
            opcode: first & 0x0f,
            payload: self.held.split_to(length).freeze(),
        }))
    }
}

/// A WebSocket of the suite. Dropping it closes its connection.
#[derive(Debug)]
pub struct Socket {
    connection: TokioIo<Upgraded>,
    decoder: Decoder,
}

impl Socket {
    /// Takes over a connection that has been upgraded.
    #[must_use]
    pub fn new(upgraded: Upgraded) -> Self {
        Self {
            connection: TokioIo::new(upgraded),
            decoder: Decoder::default(),
        }
    }

    /// Sends a text.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn send(&mut self, text: &str) -> Verdict {
        let frame = encoded(TEXT, text.as_bytes());
        let sent = self.connection.write_all(&frame).await;
        sent.map_err(|error| fail("an open WebSocket", error.to_string()))
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection ends, sends no frame, or nothing comes in time.
    pub async fn frame(&mut self, limit: Duration) -> Result<Frame, Stop> {
        let what = "a frame of a WebSocket";
        let mut piece = [0; 4_096];
        loop {
            let frame = self.decoder.take_frame();
            if let Some(frame) = frame.map_err(|error| fail(what, error.to_string()))? {
                return Ok(frame);
            }
            let read = tokio::time::timeout(limit, self.connection.read(&mut piece)).await;
            match read {
                Err(_) => return Err(fail(what, format!("nothing within {limit:?}"))),
                Ok(Err(error)) => return Err(fail(what, error.to_string())),
                Ok(Ok(0)) => return Err(fail(what, "the end of the connection")),
                Ok(Ok(count)) => self.decoder.push(&piece[..count]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A server's frame: as a client's, without mask.
    fn unmasked(payload: &[u8]) -> Vec<u8> {
        let frame = encoded(TEXT, payload);
        let head = if payload.len() < 126 { 2 } else { 4 };
        let mut out = frame[..head].to_vec();
        out[1] &= 0x7f;
        out.extend_from_slice(payload);
        out
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cut in 1usize..50,
        ) {
            let wire: Vec<u8> = payloads.iter().flat_map(|payload| unmasked(payload)).collect();
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.take_frame().unwrap() {
                    prop_assert_eq!(frame.opcode, TEXT);
                    got.push(frame.payload.to_vec());
                }
            }
            prop_assert_eq!(got, payloads);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(frame)) = decoder.take_frame() {
                prop_assert!(frame.payload.len() < bytes.len());
            }
        }
    }

    #[test]
    fn what_servers_do_not_send_is_refused() {
        for (bytes, error) in [
            (&[0xc1, 0x00][..], FrameError::Reserved),
            (&[0x81, 0x81], FrameError::Masked),
            (&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 1], FrameError::Long),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert_eq!(decoder.take_frame(), Err(error));
        }
    }
}
