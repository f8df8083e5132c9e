//! Frames of a Connect stream.
//!
//! ```text
//!   flags (1 byte) | length (4 bytes, big-endian) | payload
//!   flags & 0x02: the last frame; its payload is {} or {"error":{"code","message"}}
//! ```

use bytes::{Buf, Bytes, BytesMut};

/// Flag of the last frame.
pub const LAST: u8 = 0x02;
const HEAD: usize = 5;
/// Longest payload that is taken.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it is the last.
    pub last: bool,
    /// Payload.
    pub payload: Bytes,
}

/// Why bytes are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Compressed, which nobody asked for, or flags that do not exist.
    #[error("a frame has the flags {0:#04x}")]
    Flags(u8),
    /// Longer than is taken.
    #[error("a frame of {0} bytes, more than {MAX_PAYLOAD}")]
    Long(usize),
}

/// A frame's bytes.
#[must_use]
pub fn encode(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = BytesMut::with_capacity(HEAD + payload.len());
    bytes.extend_from_slice(&[0]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// Finds frames in bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Frames {
    held: BytesMut,
}

impl Frames {
    /// Takes a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
    }

    /// The next frame that is whole.
    ///
    /// # Errors
    /// When the bytes are no frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let [flags, length @ ..] = match self.held.first_chunk::<HEAD>() {
            Some(head) => *head,
            None => return Ok(None),
        };
        if flags & !LAST != 0 {
            return Err(FrameError::Flags(flags));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(FrameError::Long(length));
        }
        if self.held.len() < HEAD + length {
            return Ok(None);
        }
        self.held.advance(HEAD);
        Ok(Some(Frame {
            last: flags & LAST != 0,
            payload: self.held.split_to(length).freeze(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_bytes_are_the_head() {
        assert_eq!(&encode(b"{}")[..], b"\0\0\0\0\x02{}");
        let mut frames = Frames::default();
        frames.push(&[1, 0, 0, 0, 0]);
        assert_eq!(frames.next_frame(), Err(FrameError::Flags(1)));
        let mut frames = Frames::default();
        frames.push(&[2, 0xff, 0, 0, 0]);
        assert_eq!(frames.next_frame(), Err(FrameError::Long(0xff00_0000)));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..10), cut in 1usize..40) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| encode(payload)).collect();
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(cut) {
                frames.push(piece);
                while let Some(frame) = frames.next_frame().unwrap() {
                    prop_assert!(!frame.last);
                    found.push(frame.payload.to_vec());
                }
            }
            prop_assert_eq!(found, payloads);
        }

        #[test]
        fn hostile_bytes_cost_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::default();
            frames.push(&bytes);
            while let Ok(Some(_)) = frames.next_frame() {}
        }
    }
}
