//! Values to bytes and back.
//!
//! ```text
//!  field = key (number << 3 | wire type, varint), then   0 varint   1 eight bytes   2 length, bytes   5 four bytes
//! ```
//!
//! Decoding takes any bytes: lengths are checked against what is there, nesting is bounded, unknown fields are passed over.

use serde_json::{Map as Members, Value, json};

use super::{Field, Kind, Message};
use crate::wire::encode::{base64, from_base64};

/// Messages within messages that are followed.
const DEPTH: usize = 16;

/// Why bytes are no message, or a value none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// The bytes end inside something.
    #[error("the bytes end inside a field")]
    Cut,
    /// A number of more than ten bytes.
    #[error("a varint of more than ten bytes")]
    Varint,
    /// Field number zero, or beyond the largest.
    #[error("{0} is no field number")]
    Number(u64),
    /// A wire type that protobuf does not have, or no longer has.
    #[error("wire type {0}")]
    Wire(u64),
    /// A field of another wire type than its own.
    #[error("{message}.{field} with wire type {wire}")]
    Mismatch {
        /// In which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// What came.
        wire: u64,
    },
    /// A text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
    /// A number that its type does not hold.
    #[error("{0} is out of its range")]
    Range(&'static str),
    /// Too many messages within each other.
    #[error("more than {DEPTH} messages within each other")]
    Deep,
    /// A member that the message does not have.
    #[error("{message} has no field {field}")]
    Unknown {
        /// Which message.
        message: &'static str,
        /// Which member.
        field: String,
    },
    /// A member of another type than its field.
    #[error("{0} cannot be written as protobuf")]
    Value(&'static str),
}

/// A value as bytes. Null members are left out.
///
/// # Errors
/// When a member is not of the message.
pub fn encode(message: &'static Message, value: &Value) -> Result<Vec<u8>, ProtoError> {
    let mut out = Vec::new();
    let empty = Members::new();
    for (name, member) in value.as_object().unwrap_or(&empty) {
        let field = message.fields.iter().find(|field| field.name == name);
        let field = field.ok_or_else(|| ProtoError::Unknown {
            message: message.name,
            field: name.clone(),
        })?;
        match member {
            Value::Null => {}
            Value::Array(items) if field.repeated => {
                for item in items {
                    put(&mut out, field, item)?;
                }
            }
            one => put(&mut out, field, one)?,
        }
    }
    Ok(out)
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn block(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put(out: &mut Vec<u8>, field: &'static Field, value: &Value) -> Result<(), ProtoError> {
    let wrong = || ProtoError::Value(field.name);
    let number = match field.kind {
        Kind::Text => {
            block(
                out,
                field.number,
                value.as_str().ok_or_else(wrong)?.as_bytes(),
            );
            return Ok(());
        }
        Kind::Bytes => {
            let bytes = value.as_str().and_then(from_base64).ok_or_else(wrong)?;
            block(out, field.number, &bytes);
            return Ok(());
        }
        Kind::Message(message) => {
            value.as_object().ok_or_else(wrong)?;
            block(out, field.number, &encode(message, value)?);
            return Ok(());
        }
        Kind::Map => {
            for (key, member) in value.as_object().ok_or_else(wrong)? {
                let mut entry = Vec::new();
                block(&mut entry, 1, key.as_bytes());
                block(&mut entry, 2, member.as_str().ok_or_else(wrong)?.as_bytes());
                block(out, field.number, &entry);
            }
            return Ok(());
        }
        Kind::Time => {
            let time: jiff::Timestamp = value
                .as_str()
                .and_then(|text| text.parse().ok())
                .ok_or_else(wrong)?;
            let mut inner = Vec::new();
            varint(&mut inner, 1 << 3);
            varint(&mut inner, time.as_second().cast_unsigned());
            varint(&mut inner, 2 << 3);
            varint(
                &mut inner,
                i64::from(time.subsec_nanosecond()).cast_unsigned(),
            );
            block(out, field.number, &inner);
            return Ok(());
        }
        Kind::Bool => u64::from(value.as_bool().ok_or_else(wrong)?),
        Kind::Uint32 => value
            .as_u64()
            .filter(|number| *number <= u64::from(u32::MAX))
            .ok_or_else(wrong)?,
        Kind::Sint32 => {
            let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
            let number = number.ok_or_else(wrong)?;
            u64::from(((number << 1) ^ (number >> 31)).cast_unsigned())
        }
        Kind::Int64 => {
            let text = value.as_str().and_then(|text| text.parse().ok());
            text.or_else(|| value.as_i64())
                .ok_or_else(wrong)?
                .cast_unsigned()
        }
        Kind::Enum(names) => {
            let name = value.as_str().ok_or_else(wrong)?;
            let (number, _) = names
                .iter()
                .find(|(_, known)| *known == name)
                .ok_or_else(wrong)?;
            i64::from(*number).cast_unsigned()
        }
    };
    varint(out, u64::from(field.number) << 3);
    varint(out, number);
    Ok(())
}

/// Bytes as a value.
///
/// # Errors
/// See [`ProtoError`].
pub fn decode(message: &'static Message, bytes: &[u8]) -> Result<Value, ProtoError> {
    decoded(message, bytes, 0)
}

/// Bytes that are read from their beginning.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut number = 0u64;
        for shift in 0..10 {
            let (byte, rest) = self.0.split_first().ok_or(ProtoError::Cut)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtoError::Varint)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], ProtoError> {
        let length = usize::try_from(length).map_err(|_| ProtoError::Cut)?;
        let (head, rest) = self.0.split_at_checked(length).ok_or(ProtoError::Cut)?;
        self.0 = rest;
        Ok(head)
    }
}

/// What a field carries.
enum Carried<'a> {
    Number(u64),
    Block(&'a [u8]),
    Fixed,
}

fn next<'a>(reader: &mut Reader<'a>) -> Result<(u64, u64, Carried<'a>), ProtoError> {
    let key = reader.varint()?;
    let (number, wire) = (key >> 3, key & 7);
    if number == 0 || number >= 1 << 29 {
        return Err(ProtoError::Number(number));
    }
    let carried = match wire {
        0 => Carried::Number(reader.varint()?),
        1 => reader.take(8).map(|_| Carried::Fixed)?,
        2 => {
            let length = reader.varint()?;
            Carried::Block(reader.take(length)?)
        }
        5 => reader.take(4).map(|_| Carried::Fixed)?,
        other => return Err(ProtoError::Wire(other)),
    };
    Ok((number, wire, carried))
}

fn decoded(message: &'static Message, bytes: &[u8], depth: usize) -> Result<Value, ProtoError> {
    if depth > DEPTH {
        return Err(ProtoError::Deep);
    }
    let mut members = Members::new();
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        let (number, wire, carried) = next(&mut reader)?;
        let known = message
            .fields
            .iter()
            .find(|field| u64::from(field.number) == number);
        let Some(field) = known else { continue };
        let mismatch = ProtoError::Mismatch {
            message: message.name,
            field: field.name,
            wire,
        };
        let value = match carried {
            Carried::Number(number) => plain(field, number)?.ok_or(mismatch)?,
            Carried::Block(block) => nested(field, block, depth)?.ok_or(mismatch)?,
            Carried::Fixed => return Err(mismatch),
        };
        insert(&mut members, field, value);
    }
    Ok(Value::Object(members))
}

fn insert(members: &mut Members<String, Value>, field: &'static Field, value: Value) {
    let have = members.entry(field.name).or_insert(Value::Null);
    match (have, value) {
        (Value::Array(items), value) if field.repeated => items.push(value),
        (have, value) if field.repeated => *have = json!([value]),
        // Entries of a map come one by one; messages that come in parts are one.
        (Value::Object(have), Value::Object(more)) => have.extend(more),
        (have, value) => *have = value,
    }
}

/// A number's value; none when the field is no number.
fn plain(field: &'static Field, number: u64) -> Result<Option<Value>, ProtoError> {
    let range = || ProtoError::Range(field.name);
    Ok(Some(match field.kind {
        Kind::Bool => json!(number != 0),
        Kind::Uint32 => json!(u32::try_from(number).map_err(|_| range())?),
        Kind::Sint32 => {
            let raw = u32::try_from(number).map_err(|_| range())?;
            json!((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
        }
        Kind::Int64 => json!(number.cast_signed().to_string()),
        Kind::Enum(names) => {
            let number = number.cast_signed();
            match names.iter().find(|(known, _)| i64::from(*known) == number) {
                Some((_, name)) => json!(name),
                None => json!(number),
            }
        }
        Kind::Text | Kind::Bytes | Kind::Message(_) | Kind::Map | Kind::Time => return Ok(None),
    }))
}

fn text(name: &'static str, bytes: &[u8]) -> Result<String, ProtoError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtoError::Utf8(name))
}

/// A block's value; none when the field is no block.
fn nested(field: &'static Field, bytes: &[u8], depth: usize) -> Result<Option<Value>, ProtoError> {
    Ok(Some(match field.kind {
        Kind::Text => json!(text(field.name, bytes)?),
        Kind::Bytes => json!(base64(bytes)),
        Kind::Message(message) => decoded(message, bytes, depth + 1)?,
        Kind::Map => {
            let (mut key, mut value) = (String::new(), String::new());
            let mut reader = Reader(bytes);
            while !reader.0.is_empty() {
                match next(&mut reader)? {
                    (1, _, Carried::Block(bytes)) => key = text(field.name, bytes)?,
                    (2, _, Carried::Block(bytes)) => value = text(field.name, bytes)?,
                    _ => {}
                }
            }
            json!({ key: value })
        }
        Kind::Time => {
            let (mut seconds, mut nanos) = (0, 0);
            let mut reader = Reader(bytes);
            while !reader.0.is_empty() {
                match next(&mut reader)? {
                    (1, _, Carried::Number(number)) => seconds = number.cast_signed(),
                    (2, _, Carried::Number(number)) => nanos = number.cast_signed(),
                    _ => {}
                }
            }
            let nanos = i32::try_from(nanos).map_err(|_| ProtoError::Range(field.name))?;
            let time = jiff::Timestamp::new(seconds, nanos);
            json!(time.map_err(|_| ProtoError::Range(field.name))?.to_string())
        }
        Kind::Bool | Kind::Uint32 | Kind::Sint32 | Kind::Int64 | Kind::Enum(_) => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_as_the_protobuf_documents_have_them() {
        let start = json!({ "process": { "cmd": "ls", "args": ["-l"], "envs": { "A": "b" } }, "stdin": false });
        let bytes = encode(&schema::START, &start).unwrap();
        // serde_json keeps members sorted: args, cmd, envs.
        assert_eq!(
            bytes,
            b"\x0a\x10\x12\x02-l\x0a\x02ls\x1a\x06\x0a\x01A\x12\x01b\x20\x00"
        );
        assert_eq!(decode(&schema::START, &bytes).unwrap(), start);
        // sint32: -1 is 1, 3 is 6.
        assert_eq!(
            encode(&schema::END, &json!({ "exitCode": -1 })).unwrap(),
            [8, 1]
        );
        assert_eq!(
            encode(&schema::END, &json!({ "exitCode": 3 })).unwrap(),
            [8, 6]
        );
        assert_eq!(
            encode(&schema::SEND_SIGNAL, &json!({ "signal": "SIGNAL_SIGKILL" })).unwrap(),
            [16, 9]
        );
        // int64: -1 takes ten bytes.
        assert_eq!(
            encode(&schema::ENTRY, &json!({ "size": "-1" }))
                .unwrap()
                .len(),
            11
        );
    }

    #[test]
    fn unknown_fields_are_passed_over_and_wrong_types_refused() {
        let bytes = [0xf8, 0x3f, 1, 0xfd, 0x3f, 0, 0, 0, 0, 8, 5];
        assert_eq!(
            decode(&schema::STARTED, &bytes).unwrap(),
            json!({ "pid": 5 })
        );
        assert!(matches!(
            decode(&schema::STARTED, &[10, 1, b'x']),
            Err(ProtoError::Mismatch { .. })
        ));
        assert_eq!(decode(&schema::PATH, &[10, 200]), Err(ProtoError::Cut));
        assert_eq!(
            decode(&schema::PATH, &[10, 1, 0xff]),
            Err(ProtoError::Utf8("path"))
        );
    }

    fn entry() -> impl Strategy<Value = Value> {
        let time = (0i64..4_000_000_000, 0i32..1_000_000_000)
            .prop_map(|(seconds, nanos)| jiff::Timestamp::new(seconds, nanos).unwrap().to_string());
        let metadata = prop::collection::btree_map("[a-z]{1,5}", any::<String>(), 1..4);
        (
            any::<String>(),
            0usize..4,
            any::<i64>(),
            any::<u32>(),
            time,
            metadata,
            any::<bool>(),
        )
            .prop_map(|(name, kind, size, mode, time, metadata, link)| {
                let kinds = [
                    "FILE_TYPE_UNSPECIFIED",
                    "FILE_TYPE_FILE",
                    "FILE_TYPE_DIRECTORY",
                    "FILE_TYPE_SYMLINK",
                ];
                json!({
                    "name": name, "type": kinds[kind], "size": size.to_string(), "mode": mode,
                    "modifiedTime": time, "metadata": metadata, "isSymlink": link,
                })
            })
    }

    proptest! {
        #[test]
        fn entries_come_back(entries in prop::collection::vec(entry(), 1..4)) {
            let value = json!({ "entries": entries });
            let bytes = encode(&schema::ENTRIES, &value).unwrap();
            prop_assert_eq!(decode(&schema::ENTRIES, &bytes).unwrap(), value);
        }

        #[test]
        fn events_come_back(code in any::<i32>(), out in prop::collection::vec(any::<u8>(), 0..300), exited in any::<bool>()) {
            let data = json!({ "event": { "data": { "stdout": base64(&out) } } });
            let bytes = encode(&schema::EVENT, &data).unwrap();
            prop_assert_eq!(decode(&schema::EVENT, &bytes).unwrap(), data);
            let end = json!({ "event": { "end": { "exitCode": code, "exited": exited } } });
            let bytes = encode(&schema::EVENT, &end).unwrap();
            prop_assert_eq!(decode(&schema::EVENT, &bytes).unwrap(), end);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for message in [&schema::ENTRIES, &schema::EVENT, &schema::START, &schema::WATCHED] {
                let _ = decode(message, &bytes);
            }
        }
    }
}
