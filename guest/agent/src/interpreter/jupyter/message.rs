//! Jupyter messages: a ZeroMQ message of signed JSON parts.
//!
//! ```text
//! frames   [routing ids…] | "<IDS|MSG>" | signature | header | parent_header | metadata | content | [buffers…]
//! signature  hex(HMAC-SHA256(key, header ‖ parent_header ‖ metadata ‖ content))
//! ```
//!
//! Every part is guest data: unsigned or malformed messages are dropped, missing members have neutral values.
//! Source: "Messaging in Jupyter", protocol 5.3.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use uuid::Uuid;

/// Ends the routing part.
const DELIMITER: &[u8] = b"<IDS|MSG>";
/// Spoken protocol version.
const VERSION: &str = "5.3";

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No delimiter, or too few parts after it.
    #[error("the message lacks parts")]
    Incomplete,
    /// The signature is not that of the key.
    #[error("the message is not signed with the kernel's key")]
    Signature,
    /// A part is not JSON of the right shape.
    #[error("the message's {0} cannot be read")]
    Part(&'static str),
}

/// The secret that both sides sign with; random for each kernel.
#[derive(Clone)]
pub struct Key(String);

impl Key {
    /// A new secret: 256 random bits.
    pub fn random() -> Self {
        Self(format!(
            "{}{}",
            Uuid::new_v4().simple(),
            Uuid::new_v4().simple()
        ))
    }

    /// As written into the kernel's connection file.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn mac(&self, parts: [&[u8]; 4]) -> Hmac<Sha256> {
        // HMAC takes keys of any length, so this has no error to tell.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The members of a header that are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Unique per message.
    pub msg_id: String,
    /// What the content is.
    pub msg_type: String,
    /// Who sends.
    pub session: String,
    /// Not used by anybody.
    pub username: String,
    /// RFC 3339.
    pub date: String,
    /// Of the protocol.
    pub version: String,
}

/// A received message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its own header.
    pub header: Header,
    /// `msg_id` of the request that it belongs to; empty when it belongs to none.
    pub parent_id: String,
    /// The content; for a message that was cut, null.
    pub content: Value,
    /// Whether a part was too large to be taken.
    pub cut: bool,
    /// Bytes received for it.
    pub size: usize,
}

/// Makes a request of the given type and returns its id and its frames.
pub fn request(
    key: &Key,
    session: &str,
    msg_type: &str,
    content: &Value,
) -> (String, [Vec<u8>; 6]) {
    let header = Header {
        msg_id: Uuid::new_v4().simple().to_string(),
        msg_type: msg_type.to_owned(),
        session: session.to_owned(),
        username: "sandboxd".to_owned(),
        date: Timestamp::now().to_string(),
        version: VERSION.to_owned(),
    };
    let parts = [json!(header), json!({}), json!({}), content.clone()].map(|part| part.to_string());
    let [header_text, parent, metadata, content] = parts.map(String::into_bytes);
    let signature = hex(&key
        .mac([&header_text, &parent, &metadata, &content])
        .finalize()
        .into_bytes());
    let frames = [
        DELIMITER.to_vec(),
        signature.into_bytes(),
        header_text,
        parent,
        metadata,
        content,
    ];
    (header.msg_id, frames)
}

/// Reads a message and checks its signature. A cut one cannot be checked; it is read as far as it goes, and is only
/// good for saying so.
///
/// # Errors
/// Why it has to be dropped.
pub fn parse(key: &Key, frames: &[Bytes], cut: bool) -> Result<Message, MessageError> {
    let start = frames
        .iter()
        .position(|frame| frame.as_ref() == DELIMITER)
        .ok_or(MessageError::Incomplete)?;
    let [signature, header, parent, metadata, content, ..] = &frames[start + 1..] else {
        return Err(MessageError::Incomplete);
    };
    if !cut {
        let given = unhex(signature).ok_or(MessageError::Signature)?;
        key.mac([header, parent, metadata, content])
            .verify_slice(&given)
            .map_err(|_| MessageError::Signature)?;
    }
    let header: Header =
        serde_json::from_slice(header).map_err(|_| MessageError::Part("header"))?;
    let parent: Header =
        serde_json::from_slice(parent).map_err(|_| MessageError::Part("parent header"))?;
    let content = match serde_json::from_slice(content) {
        Ok(content) => content,
        Err(_) if cut => Value::Null,
        Err(_) => return Err(MessageError::Part("content")),
    };
    let size = frames.iter().map(Bytes::len).sum();
    Ok(Message {
        header,
        parent_id: parent.msg_id,
        content,
        cut,
        size,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    text.chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> Key {
        Key("a0436f6c-1916-498b-8eb9-e81ab9368e84".to_owned())
    }

    fn owned(frames: [Vec<u8>; 6]) -> Vec<Bytes> {
        frames.map(Bytes::from).to_vec()
    }

    #[test]
    fn signatures_are_hmac_sha256_in_hex() {
        // RFC 4231, test case 2.
        let mac = Key("Jefe".to_owned()).mac([b"what do ya want ", b"for ", b"", b"nothing?"]);
        assert_eq!(
            hex(&mac.finalize().into_bytes()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn what_is_sent_can_be_read_with_the_same_key_only() {
        let content = json!({"code": "1+1", "silent": false});
        let (id, frames) = request(&key(), "s", "execute_request", &content);
        let mut frames = owned(frames);
        frames.insert(0, Bytes::from_static(b"routing id"));
        let message = parse(&key(), &frames, false).unwrap();
        assert_eq!(message.header.msg_id, id);
        assert_eq!(message.header.msg_type, "execute_request");
        assert_eq!(
            (message.parent_id.as_str(), &message.content),
            ("", &content)
        );
        assert_eq!(
            parse(&Key("other".to_owned()), &frames, false),
            Err(MessageError::Signature)
        );
        frames[6] = Bytes::from_static(b"{\"code\":\"evil\"}");
        assert_eq!(parse(&key(), &frames, false), Err(MessageError::Signature));
    }

    #[test]
    fn a_cut_message_is_good_for_its_headers() {
        let (_, frames) = request(&key(), "s", "stream", &json!({"text": "x"}));
        let mut frames = owned(frames);
        frames[5] = Bytes::new();
        let message = parse(&key(), &frames, true).unwrap();
        assert_eq!(
            (message.header.msg_type.as_str(), message.content),
            ("stream", Value::Null)
        );
    }

    #[test]
    fn incomplete_messages_are_told_apart() {
        let (_, frames) = request(&key(), "s", "stream", &json!({}));
        let frames = owned(frames);
        assert_eq!(
            parse(&key(), &frames[..5], false),
            Err(MessageError::Incomplete)
        );
        assert_eq!(
            parse(&key(), &frames[1..], false),
            Err(MessageError::Incomplete)
        );
        assert_eq!(parse(&key(), &[], false), Err(MessageError::Incomplete));
    }

    proptest! {
        #[test]
        fn any_frames_are_taken_without_panic(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..9),
            cut: bool,
        ) {
            let mut frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
            if let Some(first) = frames.first_mut() {
                *first = Bytes::from_static(DELIMITER);
            }
            let _ = parse(&key(), &frames, cut);
        }

        #[test]
        fn hexadecimal_is_undone(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unhex(hex(&bytes).as_bytes()), Some(bytes));
        }
    }
}
