//! Protobuf, for the services of the agent: the same values that the JSON codec has, in the binary form.
//!
//! ```text
//!  JSON value ── encode ──► bytes        unary   application/proto          whole message
//!             ◄── decode ──              stream  application/connect+proto  a message in each frame; the end frame is JSON
//! ```
//!
//! Checks speak of messages as JSON whatever the codec, so that one check can be held against the other. The tables in
//! `schema` are the suite's own reading of envd's process.proto and filesystem.proto.

pub mod codec;
pub mod schema;

/// Content type of unary calls.
pub const UNARY: &str = "application/proto";
/// Content type of streams.
pub const STREAM: &str = "application/connect+proto";

/// A message: its fields.
#[derive(Debug)]
pub struct Message {
    /// Name, for errors.
    pub name: &'static str,
    /// Fields.
    pub fields: &'static [Field],
}

/// A field.
#[derive(Debug)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// Its number.
    pub number: u32,
    /// Its type.
    pub kind: Kind,
    /// Whether there may be several.
    pub repeated: bool,
}

/// A field's type.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Bytes; base64 in JSON.
    Bytes,
    /// `bool`.
    Bool,
    /// `uint32`.
    Uint32,
    /// `sint32`, zigzag.
    Sint32,
    /// `int64`; a string in JSON.
    Int64,
    /// By number on the wire, by name in JSON.
    Enum(&'static [(i32, &'static str)]),
    /// A message.
    Message(&'static Message),
    /// `map<string, string>`.
    Map,
    /// `google.protobuf.Timestamp`; RFC 3339 in JSON.
    Time,
}
