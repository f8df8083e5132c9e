//! ZMTP 3.0 frames and messages, the wire format of ZeroMQ sockets.
//!
//! ```text
//! greeting   ff 00×8 7f | 03 00 | "NULL" padded to 20 | 00 (not a server) | 00×31          64 bytes each way
//! frame      flags (1: more, 2: long, 4: command) | length (1 byte, or 8 when long) | body
//! handshake  command READY: 05 "READY" then properties: name length (1), name, value length (4), value
//! message    frames with "more", the last one without
//! ```
//!
//! A kernel is guest code, so a decoder has bounds: message size and number of frames. A frame beyond the size
//! is not stored; it is skipped and its message is marked as cut. Everything else that is wrong ends the
//! connection. Source: RFC 23/ZMTP 3.0.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a greeting.
pub const GREETING_LEN: usize = 64;
/// The most frames of a message (Jupyter uses seven and buffers).
const MAX_FRAMES: usize = 64;
/// The longest command; READY has well under 100 bytes.
const MAX_COMMAND: u64 = 4096;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What a peer may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first bytes are not those of ZMTP.
    #[error("the peer does not speak ZMTP")]
    NotZmtp,
    /// ZMTP 1 or 2.
    #[error("the peer speaks ZMTP {0}, this side 3")]
    Version(u8),
    /// Another mechanism than NULL.
    #[error("the peer wants authentication")]
    Mechanism,
    /// Reserved flag bits, or a command that says it has more frames.
    #[error("a frame has flags {0:#04x}")]
    Flags(u8),
    /// See [`MAX_FRAMES`].
    #[error("a message has more than {MAX_FRAMES} frames")]
    TooManyFrames,
    /// See [`MAX_COMMAND`].
    #[error("a command has {0} bytes")]
    LongCommand(u64),
}

/// Something complete from the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A command's body.
    Command(Bytes),
    /// A message's frames; `cut` when some are missing because they were too large.
    Message {
        /// Bodies in order. A skipped frame is empty.
        frames: Vec<Bytes>,
        /// Whether frames were skipped.
        cut: bool,
    },
}

/// Turns bytes into commands and messages.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    frames: Vec<Bytes>,
    held: usize,
    cut: bool,
    /// Bytes of the frame being skipped that are still to come, and whether it is the last of its message.
    skipping: Option<(u64, bool)>,
}

impl Decoder {
    /// `max_message` bounds the bytes held for one message.
    pub fn new(max_message: usize) -> Self {
        Self {
            max_message,
            frames: Vec::new(),
            held: 0,
            cut: false,
            skipping: None,
        }
    }

    /// Takes what is complete out of `input`. `None`: more bytes are needed.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, FrameError> {
        loop {
            if let Some((left, last)) = self.skipping {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                input.advance(here);
                let left = left - here as u64;
                if left > 0 {
                    self.skipping = Some((left, last));
                    return Ok(None);
                }
                self.skipping = None;
                if let Some(message) = self.push(Bytes::new(), last)? {
                    return Ok(Some(message));
                }
                continue;
            }
            let Some((flags, length, header)) = header(input) else {
                return Ok(None);
            };
            if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
                return Err(FrameError::Flags(flags));
            }
            let is_command = flags & COMMAND != 0;
            if is_command && length > MAX_COMMAND {
                return Err(FrameError::LongCommand(length));
            }
            let last = flags & MORE == 0;
            let fits = usize::try_from(length)
                .ok()
                .filter(|length| is_command || *length <= self.max_message - self.held);
            let Some(length) = fits else {
                input.advance(header);
                self.cut = true;
                self.skipping = Some((length, last));
                continue;
            };
            if input.len() - header < length {
                return Ok(None);
            }
            input.advance(header);
            // A copy: a small frame must not keep a large read buffer alive.
            let body = Bytes::copy_from_slice(&input[..length]);
            input.advance(length);
            if is_command {
                return Ok(Some(Incoming::Command(body)));
            }
            if let Some(message) = self.push(body, last)? {
                return Ok(Some(message));
            }
        }
    }

    fn push(&mut self, body: Bytes, last: bool) -> Result<Option<Incoming>, FrameError> {
        if self.frames.len() == MAX_FRAMES {
            return Err(FrameError::TooManyFrames);
        }
        self.held += body.len();
        self.frames.push(body);
        if !last {
            return Ok(None);
        }
        self.held = 0;
        let cut = std::mem::take(&mut self.cut);
        Ok(Some(Incoming::Message {
            frames: std::mem::take(&mut self.frames),
            cut,
        }))
    }
}

/// Flags, body length and header length of the frame at the start of `input`.
fn header(input: &[u8]) -> Option<(u8, u64, usize)> {
    let flags = *input.first()?;
    if flags & LONG == 0 {
        Some((flags, u64::from(*input.get(1)?), 2))
    } else {
        let length: [u8; 8] = input.get(1..9)?.try_into().ok()?;
        Some((flags, u64::from_be_bytes(length), 9))
    }
}

/// Our greeting.
pub fn greeting() -> [u8; GREETING_LEN] {
    let mut greeting = [0; GREETING_LEN];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// Whether the peer's greeting is one we can talk to.
///
/// # Errors
/// What is wrong with it.
pub fn check_greeting(greeting: &[u8; GREETING_LEN]) -> Result<(), FrameError> {
    if greeting[0] != 0xff || greeting[9] & 1 != 1 {
        return Err(FrameError::NotZmtp);
    }
    if greeting[10] < 3 {
        return Err(FrameError::Version(greeting[10]));
    }
    if greeting[12..16] != *b"NULL" || greeting[16..32] != [0; 16] {
        return Err(FrameError::Mechanism);
    }
    Ok(())
}

/// The READY command of a socket of the given type (`DEALER`, `SUB`).
pub fn ready(socket_type: &str, identity: &str) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(b"\x05READY");
    for (name, value) in [("Socket-Type", socket_type), ("Identity", identity)] {
        body.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        body.put_slice(name.as_bytes());
        body.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        body.put_slice(value.as_bytes());
    }
    let mut frame = BytesMut::new();
    put_frame(&mut frame, COMMAND, &body);
    frame.freeze()
}

/// A message of the given frames.
pub fn message<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut out = BytesMut::new();
    let mut frames = frames.into_iter().peekable();
    while let Some(frame) = frames.next() {
        let flags = if frames.peek().is_some() { MORE } else { 0 };
        put_frame(&mut out, flags, frame);
    }
    out.freeze()
}

fn put_frame(out: &mut BytesMut, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(length) => {
            out.put_u8(flags);
            out.put_u8(length);
        }
        Err(_) => {
            out.put_u8(flags | LONG);
            out.put_u64(body.len() as u64);
        }
    }
    out.put_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_all(decoder: &mut Decoder, input: &[u8]) -> Result<Vec<Incoming>, FrameError> {
        let mut buffer = BytesMut::from(input);
        let mut found = Vec::new();
        while let Some(incoming) = decoder.decode(&mut buffer)? {
            found.push(incoming);
        }
        Ok(found)
    }

    #[test]
    fn greetings_are_checked() {
        let mut good = greeting();
        assert_eq!(check_greeting(&good), Ok(()));
        good[11] = 1; // 3.1 is fine: it speaks 3.0 with us.
        assert_eq!(check_greeting(&good), Ok(()));
        let mut other = good;
        other[10] = 1;
        assert_eq!(check_greeting(&other), Err(FrameError::Version(1)));
        let mut other = good;
        other[12..17].copy_from_slice(b"PLAIN");
        assert_eq!(check_greeting(&other), Err(FrameError::Mechanism));
        assert_eq!(check_greeting(&[0; 64]), Err(FrameError::NotZmtp));
    }

    #[test]
    fn ready_is_one_command_frame() {
        let found = decode_all(&mut Decoder::new(10), &ready("DEALER", "me")).unwrap();
        let expected = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02me";
        assert_eq!(found, [Incoming::Command(Bytes::from_static(expected))]);
    }

    #[test]
    fn too_large_frames_are_skipped_and_the_next_message_is_whole() {
        let mut decoder = Decoder::new(10);
        let large = vec![7u8; 1000];
        let mut input = message([b"ab".as_slice(), &large, b"cd"]).to_vec();
        input.extend_from_slice(&message([b"next".as_slice()]));
        let found = decode_all(&mut decoder, &input).unwrap();
        let frames = ["ab", "", "cd"].map(Bytes::from).to_vec();
        assert_eq!(found[0], Incoming::Message { frames, cut: true });
        let frames = vec![Bytes::from("next")];
        assert_eq!(found[1], Incoming::Message { frames, cut: false });
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut decoder = Decoder::new(10);
        let mut input = vec![LONG];
        input.extend_from_slice(&u64::MAX.to_be_bytes());
        input.extend_from_slice(&[0; 100]);
        let mut buffer = BytesMut::from(&input[..]);
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        assert!(buffer.is_empty());
        assert_eq!(decoder.skipping, Some((u64::MAX - 100, true)));
    }

    #[test]
    fn endless_messages_and_odd_flags_end_the_connection() {
        let frames = vec![b"".as_slice(); MAX_FRAMES + 1];
        let error = decode_all(&mut Decoder::new(10), &message(frames)).unwrap_err();
        assert_eq!(error, FrameError::TooManyFrames);
        for flags in [8u8, 0x80, MORE | COMMAND] {
            let error = decode_all(&mut Decoder::new(10), &[flags, 0]).unwrap_err();
            assert_eq!(error, FrameError::Flags(flags));
        }
        let error = decode_all(
            &mut Decoder::new(10),
            &[COMMAND | LONG, 0, 0, 0, 0, 1, 0, 0, 0],
        );
        assert_eq!(error, Err(FrameError::LongCommand(1 << 24)));
    }

    proptest! {
        #[test]
        fn messages_survive_any_cut_of_the_stream(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 1..8),
            piece in 1usize..50,
        ) {
            let bytes = message(bodies.iter().map(Vec::as_slice));
            let mut decoder = Decoder::new(10_000);
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            for piece in bytes.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(incoming) = decoder.decode(&mut buffer).unwrap() {
                    found.push(incoming);
                }
            }
            let frames = bodies.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(found, vec![Incoming::Message { frames, cut: false }]);
        }

        #[test]
        fn any_bytes_are_taken_within_bounds(input in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = Decoder::new(100);
            if let Ok(found) = decode_all(&mut decoder, &input) {
                for incoming in found {
                    if let Incoming::Message { frames, .. } = incoming {
                        prop_assert!(frames.iter().map(Bytes::len).sum::<usize>() <= 100);
                    }
                }
            }
        }
    }
}
