//! The frames of a Connect stream.
//!
//! ```text
//!  0       1                 5
//!  ├ flags ┼ length, big end ┼ payload …
//!    0x01 compressed   0x02 end of stream: payload is {} or {"error": {"code", "message"}}
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// End of stream.
pub const END: u8 = 0x02;
/// Compressed payload; the suite asks for none.
pub const COMPRESSED: u8 = 0x01;
/// Longest payload that is taken.
pub const MAX_PAYLOAD: usize = 16 * 1024 * 1024;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Flags.
    pub flags: u8,
    /// Payload.
    pub payload: Bytes,
}

/// What is wrong with a stream's frames.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Flags that the protocol does not have.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    /// A length beyond reason.
    #[error("a payload of {0} bytes")]
    Length(usize),
    /// The stream ends inside a frame.
    #[error("the stream ends inside a frame, {0} bytes after its beginning")]
    Cut(usize),
}

/// One frame's bytes.
#[must_use]
pub fn encoded(flags: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + payload.len());
    out.put_u8(flags);
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(payload);
    out.freeze()
}

/// Takes bytes as they come and gives frames as they are whole.
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
    /// When the bytes are no frame.
    pub fn take_frame(&mut self) -> Result<Option<Envelope>, EnvelopeError> {
        if self.held.len() < 5 {
            return Ok(None);
        }
        let flags = self.held[0];
        if flags & !(END | COMPRESSED) != 0 {
            return Err(EnvelopeError::Flags(flags));
        }
        let length = (&self.held[1..5]).get_u32() as usize;
        if length > MAX_PAYLOAD {
            return Err(EnvelopeError::Length(length));
        }
        if self.held.len() < 5 + length {
            return Ok(None);
        }
        self.held.advance(5);
        Ok(Some(Envelope {
            flags,
            payload: self.held.split_to(length).freeze(),
        }))
    }

    /// The bytes are over: nothing may be left.
    ///
    /// # Errors
    /// When something is.
    pub fn finish(&self) -> Result<(), EnvelopeError> {
        if self.held.is_empty() {
            Ok(())
        } else {
            Err(EnvelopeError::Cut(self.held.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            frames in prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..200)), 0..12),
            cut in 1usize..50,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(flags, payload)| encoded(*flags, payload)).collect();
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.take_frame().unwrap() {
                    got.push((frame.flags, frame.payload.to_vec()));
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            for _ in 0..bytes.len() {
                match decoder.take_frame() {
                    Ok(Some(frame)) => prop_assert!(frame.payload.len() <= bytes.len()),
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }

    #[test]
    fn a_cut_stream_is_said_so() {
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0]);
        assert_eq!(decoder.take_frame(), Ok(None));
        assert_eq!(decoder.finish(), Err(EnvelopeError::Cut(3)));
    }
}
